//! Who is let in, and by what way.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens_and_a_wrong_one_is_refused_at_once() {
    let server =
        tokio::task::spawn_blocking(|| PostgresServer::builder().password("ge:h@im").start().unwrap());
    let server = server.await.unwrap();
    let url = |password: &str| format!("postgres://tailfold:{password}@127.0.0.1:{}/postgres", server.port());
    let store = PostgresStore::connect(&url("ge%3Ah%40im")).await.unwrap();
    append(&store, "a/1", events(1)).await;
    let begun = Instant::now();
    let error = PostgresStore::connect(&url("versteckt")).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), &ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.contains("password authentication failed") && !text.contains("versteckt"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named_when_time_is_up() {
    let config = config("postgres://ada:geheim@127.0.0.1:1/bank").deadline(Duration::from_millis(300));
    let error = config.connect().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(Outcome::NotDone)), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("connect to postgres://127.0.0.1:1/bank?schema=tailfold: "), "{text}");
    assert!(text.contains("refused") && !text.contains("geheim"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked_where_tls_is_required() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let authority = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(path(name), certificate.pem()).unwrap();
        Issuer::new(params, key)
    };
    let (ours, _other) = (authority("ours.pem"), authority("other.pem"));
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
    std::fs::write(path("server.pem"), certificate.pem()).unwrap();
    std::fs::write(path("server.key"), key.serialize_pem()).unwrap();
    let (pem, key) = (path("server.pem"), path("server.key"));
    let server =
        tokio::task::spawn_blocking(move || PostgresServer::builder().tls(pem, key).start().unwrap());
    let server = server.await.unwrap();
    let connect = async |host: &str, settings: &str| {
        let url = format!("postgres://tailfold@{host}:{}/postgres?{settings}", server.port());
        config(&url).deadline(Duration::from_secs(5)).connect().await
    };
    let file = |name: &str| path(name).display().to_string().replace('/', "%2F");
    for (host, settings) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={}", file("ours.pem"))),
        ("localhost", format!("sslrootcert={}", file("ours.pem"))),
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", String::new()),
    ] {
        let store = connect(host, &settings).await.unwrap();
        append(&store, "a/1", events(1)).await;
    }
    for (host, settings) in [
        ("localhost", format!("sslmode=require&sslrootcert={}", file("other.pem"))),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={}", file("ours.pem"))),
        ("localhost", "sslmode=require".to_owned()),
    ] {
        let begun = Instant::now();
        let error = connect(host, &settings).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{settings}: {error}");
        assert_eq!(error.kind(), &ErrorKind::Invalid, "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    let error = connect("127.0.0.1", "sslmode=disable").await.unwrap_err();
    assert!(error.to_string().contains("no encryption"), "{error}");
    let error = connect("localhost", "sslrootcert=missing.pem").await.unwrap_err();
    assert!(error.to_string().contains("`missing.pem` cannot be used"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_required_is_not_done_without() {
    let url = format!("{}?sslmode=require", shared_server().await);
    let error = config(&url).deadline(Duration::from_secs(5)).connect().await.unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
}
