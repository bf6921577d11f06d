//! Getting in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use nkeys::KeyPair;

use crate::support::*;

async fn refused(config: NatsConfig) -> Error {
    let began = Instant::now();
    let error = config.connect().await.map(|_| ()).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_error_names_where_there_is_none() {
    let error = refused(NatsConfig::new(["nats://user:geheim@127.0.0.1:9", "nats://127.0.0.1:11"])).await;
    assert!(error.to_string().starts_with("connect to nats://127.0.0.1:9,127.0.0.1:11/tf: "), "{error}");
    assert!(!error.to_string().contains("geheim"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_gets_in_with_the_right_password_only() {
    let server = tokio::task::spawn_blocking(|| {
        NatsServer::builder(NatsVersion::V2_15_1).user_password("alice", "a:b@c").start().unwrap()
    });
    let server = server.await.unwrap();
    let url = |login: &str| format!("nats://{login}127.0.0.1:{}", server.port());
    let store = NatsStore::connect(&url("alice:a%3Ab%40c@")).await.unwrap();
    append(&store, &stream("a/1"), events(1)).await;
    let by_setting = NatsConfig::new([url("")]).user_and_password("alice", "a:b@c").connect().await.unwrap();
    assert_eq!(read(&by_setting, &stream("a/1")).await.len(), 1);
    for login in ["", "alice:wrong@"] {
        let error = refused(url(login).parse().unwrap()).await;
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in() {
    let server = tokio::task::spawn_blocking(|| {
        let builder = NatsServer::builder(NatsVersion::V2_15_1);
        builder.config_line("authorization { token: \"s3cret\" }").start().unwrap()
    });
    let server = server.await.unwrap();
    let store = NatsStore::connect(&format!("nats://s3cret@127.0.0.1:{}", server.port())).await.unwrap();
    append(&store, &stream("a/1"), events(1)).await;
    refused(NatsConfig::new([server.url()])).await;
}

/// An operator, its accounts and a user, as `nsc` makes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_lets_in() {
    let (operator, system, account) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let (user, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let all = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
    let none = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1 });
    let of_account = |key: &KeyPair, limits| {
        token(&operator, key, json!({ "type": "account", "version": 2, "limits": limits }))
    };
    let config = format!(
        "operator: {}\nsystem_account: {system}\nresolver: MEMORY\nresolver_preload: {{ {system}: {}, {account}: {} }}",
        token(&operator, &operator, json!({ "type": "operator", "version": 2 })),
        of_account(&system, none),
        of_account(&account, all),
        system = system.public_key(),
        account = account.public_key(),
    );
    let server = tokio::task::spawn_blocking(move || {
        NatsServer::builder(NatsVersion::V2_15_1).config_line(&config).start().unwrap()
    });
    let server = server.await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, issuer: &KeyPair, user: &KeyPair| {
        let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            token(issuer, user, claims),
            user.seed().unwrap()
        );
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let right = write("right.creds", &account, &user);
    let store = NatsConfig::new([server.url()]).credentials_file(&right).connect().await.unwrap();
    append(&store, &stream("a/1"), events(1)).await;
    let by_url =
        NatsStore::connect(&format!("{}?credentials={}", server.url(), right.display())).await.unwrap();
    assert_eq!(read(&by_url, &stream("a/1")).await.len(), 1);

    let wrong = write("wrong.creds", &KeyPair::new_account(), &stranger);
    refused(NatsConfig::new([server.url()]).credentials_file(wrong)).await;
    refused(NatsConfig::new([server.url()])).await;
    let missing = NatsConfig::new([server.url()]).credentials_file("/nonexistent.creds");
    let error = missing.connect().await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid);
    assert!(error.to_string().contains("/nonexistent.creds"), "{error}");
}

/// A JWT with which one key vouches for another.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: serde_json::Value) -> String {
    let encode = |bytes: &[u8]| BASE64.encode(bytes);
    let body = json!({ "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test",
        "sub": subject.public_key(), "nats": claims });
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!("{}.{}", encode(head.to_string().as_bytes()), encode(body.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(&signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_a_trusted_server_only() {
    let directory = tempfile::tempdir().unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = tokio::task::spawn_blocking({
        let (certificate, key) = (certificate.clone(), key.clone());
        move || NatsServer::builder(NatsVersion::V2_15_1).tls(certificate, key).start().unwrap()
    });
    let server = server.await.unwrap();
    let url = format!("tls://localhost:{}?tls_ca={}", server.port(), certificate.display());
    let store = NatsStore::connect(&url).await.unwrap();
    append(&store, &stream("a/1"), events(1)).await;
    refused(NatsConfig::new([format!("tls://localhost:{}", server.port())])).await;
}

/// The server lets in whoever shows a certificate that it trusts.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_lets_in() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    let config = format!(
        "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{certificate}\", verify: true }}"
    );
    let server = tokio::task::spawn_blocking(move || {
        NatsServer::builder(NatsVersion::V2_15_1).config_line(&config).start().unwrap()
    });
    let server = server.await.unwrap();
    let url = format!("tls://localhost:{}?tls_ca={certificate}", server.port());
    let store = NatsStore::connect(&format!("{url}&tls_cert={certificate}&tls_key={key}")).await.unwrap();
    append(&store, &stream("a/1"), events(1)).await;
    refused(url.parse().unwrap()).await;
}

/// TLS or nothing: no password goes to a server that does not speak it.
#[tokio::test(flavor = "multi_thread")]
async fn where_tls_is_required_a_plain_server_is_refused() {
    let url = shared_server().await;
    refused(NatsConfig::new([url.clone()]).require_tls()).await;
    refused(url.replace("nats://", "tls://").parse().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_does_nothing_more() {
    let (store, name) = fresh_store().await;
    append(&store, &stream("a/1"), events(1)).await;
    store.close().await.unwrap();
    let began = Instant::now();
    let error = store.head(&stream("a/1")).await.unwrap_err();
    assert!(error.to_string().ends_with("the store was closed"), "{error}");
    let error = store.append(Commit::new(stream("a/1"), Expected::Any, events(1))).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    assert!(began.elapsed() < Duration::from_secs(1));
    let again = open(&shared_server().await, &name).await;
    assert_eq!(read(&again, &stream("a/1")).await.len(), 1);
}
