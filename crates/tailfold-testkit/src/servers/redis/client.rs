//! The few words of the Redis protocol that setting up a cluster needs.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::servers::loopback;

pub(super) struct Client {
    connection: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(port: u16, password: Option<&str>) -> io::Result<Self> {
        let mut client = Self { connection: BufReader::new(loopback::connect_to_port(port)?) };
        if let Some(password) = password {
            client.ask(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// The answer to a command that is answered by a single text.
    pub(super) fn ask(&mut self, command: &[&str]) -> io::Result<String> {
        let mut said = format!("*{}\r\n", command.len());
        for word in command {
            said.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.connection.get_mut().write_all(said.as_bytes())?;
        let mut line = String::new();
        self.connection.read_line(&mut line)?;
        let line = line.trim_end();
        match (line.get(..1), line.get(1..)) {
            (Some("+"), Some(text)) => Ok(text.to_owned()),
            (Some("$"), Some(size)) => {
                let size: usize = size.parse().map_err(|_| unexpected(command, line))?;
                let mut text = vec![0; size];
                self.connection.read_exact(&mut text)?;
                self.connection.read_exact(&mut [0; 2])?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            _ => Err(unexpected(command, line)),
        }
    }
}

fn unexpected(command: &[&str], answer: &str) -> io::Error {
    // Without the rest of the command, which may be a password.
    let name = command.first().copied().unwrap_or_default();
    io::Error::new(io::ErrorKind::InvalidData, format!("ask redis-server for {name}: it says `{answer}`"))
}
