//! A network in between that loses what the test wants to be lost.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long a server that lost its client may go on answering.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// Passes on what clients and a server of this machine say to each other, or not. Dropping it ends all connections.
///
/// It belongs to the runtime that it was made in.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use tailfold_testkit::servers::{PostgresServer, Proxy};
///
/// let server = PostgresServer::start()?;
/// let proxy = Proxy::to(server.port()).await?;
/// let url = server.url().replace(&server.port().to_string(), &proxy.port().to_string());
/// // ... connect to `url` ...
/// proxy.lose_answers(); // what is said arrives, and nobody hears about it
/// proxy.cut(); // and the network is as good as new
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Rules {
    state: Mutex<State>,
    /// Changes when connections are cut.
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    refuses: bool,
    loses_requests: bool,
    loses_answers: bool,
    /// Where to cut, in bytes yet to pass.
    cut_after: Option<(Direction, u64)>,
    request_bytes: u64,
    answer_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

/// What becomes of bytes.
enum Verdict {
    Pass,
    Lose,
    /// The first so many pass; then all connections are cut, which is decided and not yet published.
    PassThenCut(usize),
}

impl Proxy {
    /// Listens on a port of its own for the server on `port` of the loopback interface, which need not be there yet.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub async fn to(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let rules = Arc::new(Rules { state: Mutex::default(), generation: watch::Sender::new(0) });
        let accepting = tokio::spawn(accept(listener, port, rules.clone())).abort_handle();
        Ok(Self { address, rules, accepting })
    }

    /// Where clients connect: `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, what the server says is lost, on all connections.
    pub fn lose_answers(&self) {
        self.change(|state| state.loses_answers = true);
    }

    /// From now on, what clients say is lost, on all connections.
    pub fn lose_requests(&self) {
        self.change(|state| state.loses_requests = true);
    }

    /// From now on, everything passes. What was lost stays lost, so that only protocols that expect this can go on; others
    /// need [`cut`](Self::cut).
    pub fn open(&self) {
        self.change(State::open);
    }

    /// Ends all connections; lets clients connect anew, and passes everything on.
    pub fn cut(&self) {
        self.change(|state| {
            state.open();
            state.generation += 1;
        });
    }

    /// Ends all connections, and every new one at once, until [`open`](Self::open).
    pub fn refuse(&self) {
        self.change(|state| {
            state.open();
            state.refuses = true;
            state.generation += 1;
        });
    }

    /// Lets the next `bytes` bytes of what clients say through, and then ends all connections as [`cut`](Self::cut) does: the
    /// server hears and acts, and its answer to that is lost. Once.
    pub fn cut_after_request_bytes(&self, bytes: u64) {
        self.change(|state| state.cut_after = Some((Direction::Request, bytes)));
    }

    /// Lets the next `bytes` bytes of what the server says through, and then ends all connections as [`cut`](Self::cut) does.
    /// Once.
    pub fn cut_after_answer_bytes(&self, bytes: u64) {
        self.change(|state| state.cut_after = Some((Direction::Answer, bytes)));
    }

    /// Whether a cut after a number of bytes is still to come.
    pub fn is_about_to_cut(&self) -> bool {
        self.rules.lock().cut_after.is_some()
    }

    /// The bytes of clients that were passed on, of all connections so far.
    pub fn request_bytes(&self) -> u64 {
        self.rules.lock().request_bytes
    }

    /// The bytes of the server that were passed on, of all connections so far.
    pub fn answer_bytes(&self) -> u64 {
        self.rules.lock().answer_bytes
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.rules.lock();
        change(&mut state);
        self.rules.publish(&state);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.refuse();
    }
}

impl Rules {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        self.generation.send_if_modified(|generation| {
            std::mem::replace(generation, state.generation) != state.generation
        });
    }

    /// Decides under the lock, so that nothing passes on a connection that has been cut.
    fn judge(&self, direction: Direction, count: usize, generation: u64) -> Verdict {
        let mut state = self.lock();
        if state.generation != generation {
            return Verdict::Lose;
        }
        let is_lost = match direction {
            Direction::Request => state.loses_requests,
            Direction::Answer => state.loses_answers,
        };
        if is_lost {
            return Verdict::Lose;
        }
        let mut passes = count;
        let mut cuts = false;
        if let Some((cut_direction, left)) = &mut state.cut_after
            && *cut_direction == direction
        {
            passes = usize::try_from(*left).unwrap_or(usize::MAX).min(count);
            *left -= passes as u64;
            cuts = *left == 0;
        }
        match direction {
            Direction::Request => state.request_bytes += passes as u64,
            Direction::Answer => state.answer_bytes += passes as u64,
        }
        if !cuts {
            return Verdict::Pass;
        }
        state.open();
        state.generation += 1;
        Verdict::PassThenCut(passes)
    }
}

impl State {
    fn open(&mut self) {
        self.refuses = false;
        self.loses_requests = false;
        self.loses_answers = false;
        self.cut_after = None;
    }
}

async fn accept(listener: TcpListener, port: u16, rules: Arc<Rules>) {
    while let Ok((client, _)) = listener.accept().await {
        let generation = {
            let state = rules.lock();
            if state.refuses {
                continue;
            }
            state.generation
        };
        let rules = rules.clone();
        tokio::spawn(async move {
            // Without a server, the client is hung up on.
            if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                // What is passed on must not wait for more.
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                pass(client, server, &rules, generation).await;
            }
        });
    }
}

async fn pass(client: TcpStream, server: TcpStream, rules: &Rules, generation: u64) {
    let mut generations = rules.generation.subscribe();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        biased;
        () = forward(&mut from_client, &mut to_server, Direction::Request, rules, generation) => {}
        () = forward(&mut from_server, &mut to_client, Direction::Answer, rules, generation) => {}
        _ = generations.wait_for(|current| *current != generation) => {}
    }
    drop((from_client, to_client));
    // Closed with something unread, the connection would be reset, and the server might never read what it was sent.
    let _ = to_server.shutdown().await;
    let mut nowhere = tokio::io::sink();
    let drained = tokio::io::copy(&mut from_server, &mut nowhere);
    let _ = tokio::time::timeout(DRAIN_PATIENCE, drained).await;
}

/// Until one side hangs up or the connection is cut.
async fn forward(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    direction: Direction,
    rules: &Rules,
    generation: u64,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let said = buffer.get(..count).unwrap_or_default();
        let (passes, cuts) = match rules.judge(direction, count, generation) {
            Verdict::Pass => (count, false),
            Verdict::Lose => (0, false),
            Verdict::PassThenCut(passes) => (passes, true),
        };
        let written = to.write_all(said.get(..passes).unwrap_or_default()).await;
        if cuts {
            // Not before the last bytes are on their way.
            rules.publish(&rules.lock());
        }
        if written.is_err() || cuts {
            break;
        }
    }
}
