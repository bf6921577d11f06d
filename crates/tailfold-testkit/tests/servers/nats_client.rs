//! The few words of the NATS protocol that these tests need.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

const INBOX: &str = "_INBOX.tests";

pub(crate) struct Client {
    connection: BufReader<TcpStream>,
    info: Value,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        Self::connect_with(port, &json!({ "verbose": false }))
    }

    pub(crate) fn connect_as(port: u16, user: &str, password: &str) -> Self {
        Self::connect_with(port, &json!({ "verbose": false, "user": user, "pass": password }))
    }

    fn connect_with(port: u16, options: &Value) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut connection = BufReader::new(stream);
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        let info = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        let mut client = Self { connection, info };
        client.say(&format!("CONNECT {options}\r\nSUB {INBOX} 1\r\n"));
        client
    }

    pub(crate) fn info(&self) -> &Value {
        &self.info
    }

    pub(crate) fn server_version(&self) -> &str {
        self.info["version"].as_str().unwrap()
    }

    /// Subjects are the name in lower case and one more token.
    pub(crate) fn create_stream(&mut self, name: &str, config: Value) {
        let mut config = config;
        config["name"] = json!(name);
        config["subjects"] = json!([format!("{}.*", name.to_lowercase())]);
        let answer = self.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &config.to_string());
        assert_eq!(answer["config"]["name"], name, "{answer}");
    }

    pub(crate) fn publish(&mut self, subject: &str, text: &str) {
        let answer = self.ask(subject, text);
        assert!(answer["seq"].is_u64(), "{answer}");
    }

    pub(crate) fn messages_in(&mut self, stream: &str) -> u64 {
        let answer = self.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "");
        answer["state"]["messages"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    pub(crate) fn answers_within(&mut self, time: Duration) -> bool {
        self.say("PING\r\n");
        self.hears_within(time)
    }

    pub(crate) fn hear_what_was_said(&mut self) {
        while self.hears_within(Duration::from_millis(50)) {
            let said = self.connection.buffer().len();
            self.connection.consume(said);
        }
    }

    pub(crate) fn hears_within(&mut self, time: Duration) -> bool {
        self.connection.get_ref().set_read_timeout(Some(time)).unwrap();
        match self.connection.fill_buf() {
            Ok(bytes) => !bytes.is_empty(),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                false
            }
        }
    }

    fn ask(&mut self, subject: &str, payload: &str) -> Value {
        self.say(&format!("PUB {subject} {INBOX} {}\r\n{payload}\r\n", payload.len()));
        loop {
            let mut line = String::new();
            assert_ne!(self.connection.read_line(&mut line).unwrap(), 0, "the server hung up");
            if line.starts_with("PING") {
                self.say("PONG\r\n");
            }
            assert!(!line.starts_with("-ERR"), "{line}");
            if line.starts_with("MSG ") {
                let size = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
                let mut answer = vec![0; size];
                self.connection.read_exact(&mut answer).unwrap();
                return serde_json::from_slice(&answer).unwrap();
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.connection.get_mut().write_all(text.as_bytes()).unwrap();
    }
}
