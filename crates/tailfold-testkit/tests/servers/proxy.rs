//! The network in between.

use std::sync::Arc;
use std::time::Duration;

use tailfold_testkit::servers::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

#[tokio::test]
async fn everything_passes_both_ways() {
    let (proxy, heard) = proxy_to_echo().await;
    let mut client = connect(&proxy).await;
    assert_eq!(exchange(&mut client, &[7; 300_000]).await.unwrap(), 300_000);
    assert_eq!((proxy.request_bytes(), proxy.answer_bytes()), (300_000, 300_000));
    assert_eq!(heard.lock().await.len(), 300_000);
    assert_eq!(proxy.address(), format!("127.0.0.1:{}", proxy.port()));
}

#[tokio::test]
async fn lost_answers_are_lost_after_the_server_has_heard() {
    let (proxy, heard) = proxy_to_echo().await;
    let mut client = connect(&proxy).await;
    exchange(&mut client, b"before").await.unwrap();
    proxy.lose_answers();
    assert!(exchange(&mut client, b" lost").await.is_none());
    assert_eq!(*heard.lock().await, b"before lost");
    proxy.open();
    assert_eq!(exchange(&mut client, b" after").await, Some(6));
}

#[tokio::test]
async fn lost_requests_never_arrive() {
    let (proxy, heard) = proxy_to_echo().await;
    let mut client = connect(&proxy).await;
    exchange(&mut client, b"before").await.unwrap();
    proxy.lose_requests();
    assert!(exchange(&mut client, b" lost").await.is_none());
    assert_eq!(*heard.lock().await, b"before");
}

#[tokio::test]
async fn cut_connection_ends_and_another_one_is_open() {
    let (proxy, _) = proxy_to_echo().await;
    let mut client = connect(&proxy).await;
    exchange(&mut client, b"before").await.unwrap();
    proxy.lose_answers();
    proxy.cut();
    assert!(has_ended(&mut client).await);
    assert_eq!(exchange(&mut connect(&proxy).await, b"after").await, Some(5));
}

#[tokio::test]
async fn refused_clients_are_hung_up_on_until_it_is_open_again() {
    let (proxy, _) = proxy_to_echo().await;
    let mut client = connect(&proxy).await;
    exchange(&mut client, b"before").await.unwrap();
    proxy.refuse();
    assert!(has_ended(&mut client).await);
    assert!(has_ended(&mut connect(&proxy).await).await);
    proxy.open();
    assert_eq!(exchange(&mut connect(&proxy).await, b"after").await, Some(5));
}

#[tokio::test]
async fn server_hears_the_bytes_before_a_cut_and_the_client_no_answer() {
    for bytes in [1, 5, 100_000] {
        let (proxy, heard) = proxy_to_echo().await;
        let mut client = connect(&proxy).await;
        exchange(&mut client, b"before").await.unwrap();
        proxy.cut_after_request_bytes(bytes);
        assert!(proxy.is_about_to_cut());
        client.write_all(&vec![7; 200_000]).await.ok();
        assert!(has_ended(&mut client).await);
        assert!(!proxy.is_about_to_cut());
        while heard.lock().await.len() < 6 + usize::try_from(bytes).unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(heard.lock().await.len() as u64, 6 + bytes);
        assert_eq!(exchange(&mut connect(&proxy).await, b"after").await, Some(5));
    }
}

#[tokio::test]
async fn client_hears_the_bytes_of_an_answer_before_a_cut() {
    let (proxy, _) = proxy_to_echo().await;
    let mut client = connect(&proxy).await;
    proxy.cut_after_answer_bytes(10);
    client.write_all(&[7; 30]).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.ok();
    assert_eq!(answer, [7; 10]);
    assert_eq!(proxy.answer_bytes(), 10);
}

#[tokio::test]
async fn without_a_server_clients_are_hung_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let proxy = Proxy::to(port).await.unwrap();
    assert!(has_ended(&mut connect(&proxy).await).await);
}

/// A server that says what it hears.
async fn proxy_to_echo() -> (Proxy, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap().port()).await.unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let heard = hears.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 1024];
                while let Ok(count @ 1..) = client.read(&mut buffer).await {
                    heard.lock().await.extend_from_slice(&buffer[..count]);
                    if client.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (proxy, heard)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// The size of the answer, which must be what was said; `None` if there is none in a while.
async fn exchange(client: &mut TcpStream, said: &[u8]) -> Option<usize> {
    let (mut from, mut to) = client.split();
    let mut answer = vec![0; said.len()];
    let patience = Duration::from_millis(if said.len() > 1_000 { 10_000 } else { 500 });
    let (_, answered) = tokio::join!(to.write_all(said), timeout(patience, from.read_exact(&mut answer)));
    answered.ok()?.ok()?;
    assert_eq!(answer, said);
    Some(answer.len())
}

async fn has_ended(client: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    // An end in order or a reset.
    timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await.is_ok()
}
