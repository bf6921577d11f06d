//! A network in between that loses what the test wants to be lost.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes on what clients and a server say, or not.
pub(crate) struct Proxy {
    address: String,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing of what the server says arrives.
    Deaf,
    /// Connections are cut; new ones are open again when the state is.
    Cut,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, states) = watch::channel(State::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *states.borrow() == State::Cut {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(pass(client, server, states.clone()));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// From now on, what the server says is lost.
    pub(crate) fn lose_answers(&self) {
        self.state.send_replace(State::Deaf);
    }

    /// Ends all connections; lets clients connect anew.
    pub(crate) async fn cut(&self) {
        self.state.send_replace(State::Cut);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        self.state.send_replace(State::Open);
    }
}

async fn pass(client: TcpStream, server: TcpStream, states: watch::Receiver<State>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let states = Arc::new(states);
    let forth = async {
        tokio::io::copy(&mut from_client, &mut to_server).await.ok();
    };
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from_server.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            if *states.borrow() == State::Open && to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let mut changes = (*states).clone();
    tokio::select! {
        () = forth => {}
        () = back => {}
        _ = changes.wait_for(|state| *state == State::Cut) => {}
    }
}
