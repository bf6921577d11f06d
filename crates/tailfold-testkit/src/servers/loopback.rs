//! Free ports of the loopback interface, and questions to servers.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long a server on the same machine may take for an answer. A paused one never answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// `N` different ports that nobody listens on. Somebody else may take one before it is used.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    // All are held until all are known, so that they differ.
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// The first bytes that a server says of its own accord.
pub(crate) fn greeting<const N: usize>(address: SocketAddr) -> io::Result<[u8; N]> {
    let mut said = [0; N];
    connect(address)?.read_exact(&mut said)?;
    Ok(said)
}

/// The first bytes that a server answers to a question.
pub(crate) fn answer<const N: usize>(address: SocketAddr, question: &[u8]) -> io::Result<[u8; N]> {
    let mut said = [0; N];
    let mut connection = connect(address)?;
    connection.write_all(question)?;
    connection.read_exact(&mut said)?;
    Ok(said)
}

/// A connection that does not wait for ever.
pub(crate) fn connect_to_port(port: u16) -> io::Result<TcpStream> {
    connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// The body of an answer with status 200 to a plain HTTP request; any other status is an error.
pub(crate) fn http_get(address: SocketAddr, target: &str) -> io::Result<Vec<u8>> {
    let mut connection = connect(address)?;
    // Version 1.0: the answer ends with the connection and is not cut into chunks.
    connection.write_all(format!("GET {target} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("get {target} of {address}: no HTTP answer"))
    })?;
    let body = answer.split_off(head_end + 4);
    let status = String::from_utf8_lossy(&answer);
    if status.split(' ').nth(1) == Some("200") {
        Ok(body)
    } else {
        let status = status.lines().next().unwrap_or_default();
        let body = String::from_utf8_lossy(&body);
        Err(io::Error::other(format!("get {target} of {address}: {status}: {}", body.trim())))
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}
