//! Who is let in, and what is told to whom is not.

use redis::TlsCertificates;

use super::support::*;

async fn start(builder: tailfold_testkit::servers::RedisBuilder) -> RedisServer {
    tokio::task::spawn_blocking(move || builder.start().unwrap()).await.unwrap()
}

async fn works(config: RedisConfig) {
    let redis = config.connect().await.unwrap();
    redis.save(&slot("a"), save(1, "state")).await.unwrap();
    assert_eq!(redis.newest(&slot("a"), None).await.unwrap().unwrap().head, head(1));
    assert_eq!(redis.list_to_vec(SlotFilter::all()).await.unwrap().len(), 1);
    assert_eq!(redis.forget("a").await.unwrap().snapshots, 1);
}

async fn refused(config: RedisConfig) {
    let began = Instant::now();
    let error = config.connect().await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid, "{error}");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("geheim") && text.contains("connect to redis"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_password_lets_in_and_the_wrong_one_is_not_repeated() {
    let server = start(RedisServer::builder().password("geheim p@ss")).await;
    let with = |login: &str| server.url().replace("redis://", &format!("redis://{login}"));
    works(RedisConfig::new([server.url()]).password("geheim p@ss")).await;
    works(with(":geheim%20p%40ss@").parse().unwrap()).await;
    works(with("default:geheim%20p%40ss@").parse().unwrap()).await;
    refused(with(":geheim@").parse().unwrap()).await;
    refused(with("alice:geheim@").parse().unwrap()).await;
    refused(RedisConfig::new([server.url()])).await;
}

/// What the access control list must allow is in the documentation of the crate.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_documented_permissions_can_do_everything() {
    let server = own_server().await;
    let rules = "on >geheim ~tf:* +@connection +hmget +hget +hset +hdel +hkeys +hexists +expire +exists +type +unlink +evalsha \
                 +eval +scan";
    let mut words = vec!["ACL", "SETUSER", "bank"];
    words.extend(rules.split_whitespace());
    let () = say(&server.url(), &words).await;
    works(RedisConfig::new([server.url()]).user_and_password("bank", "geheim")).await;
    refused(RedisConfig::new([server.url()]).user_and_password("bank", "geheim").name("other")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_a_trusted_server_only() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (certificate, key) =
        (write("cert.pem", made.cert.pem()), write("key.pem", made.signing_key.serialize_pem()));
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let stranger = write("stranger.pem", stranger.cert.pem());
    let server = start(RedisServer::builder().tls(&certificate, &key).password("geheim")).await;
    let url = format!("rediss://:geheim@localhost:{}", server.port());
    works(format!("{url}?tls_ca={}", certificate.display()).parse().unwrap()).await;
    refused(url.parse().unwrap()).await;
    refused(format!("{url}?tls_ca={}", stranger.display()).parse().unwrap()).await;
    refused(format!("{url}?tls_ca=/nonexistent.pem").parse().unwrap()).await;
    refused(
        format!("{url}?tls_ca={}", write("empty.pem", "no certificate".to_owned()).display())
            .parse()
            .unwrap(),
    )
    .await;

    let authority = format!("tls-ca-cert-file \"{}\"", certificate.display());
    let server = start(RedisServer::builder().tls(&certificate, &key).config_line(&authority)).await;
    let url = format!("rediss://localhost:{}?tls_ca={}", server.port(), certificate.display());
    let with_certificate = format!("{url}&tls_cert={}&tls_key={}", certificate.display(), key.display());
    works(url.parse().unwrap()).await;
    let files = TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(&certificate).unwrap()) };
    let client =
        redis::Client::build_with_tls(format!("rediss://localhost:{}", server.port()), files).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut ask_for_certificates = redis::cmd("CONFIG");
    ask_for_certificates.arg(&["SET", "tls-auth-clients", "yes"]);
    let () = ask_for_certificates.query_async(&mut connection).await.unwrap();
    works(with_certificate.parse().unwrap()).await;
    let refused = url.parse::<RedisConfig>().unwrap().connect().await;
    assert!(refused.is_err() || refused.unwrap().newest(&slot("a"), None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_do_not_fit_the_server_are_told() {
    let urls = tokio::task::spawn_blocking(tailfold_testkit::servers::redis_cluster_urls).await.unwrap();
    let mut told = 0;
    for url in urls {
        // One of the three has the key that is asked for.
        if let Err(error) = RedisConfig::new([url]).connect().await {
            assert!(
                error.kind() == &ErrorKind::Invalid && error.to_string().contains("cluster=true"),
                "{error}"
            );
            told += 1;
        }
    }
    assert_eq!(told, 2);
    refused(RedisConfig::new([shared_server().await]).database(99)).await;
    let no_server: [String; 0] = [];
    refused(RedisConfig::new(no_server)).await;
    refused(RedisConfig::new(["redis://:geheim@"])).await;
    refused(RedisConfig::new([shared_server().await]).name("a place")).await;
}
