//! Starts the servers that a run of tests shares, or those that its arguments name (`nats`, `postgres`, `redis`, `memcached`),
//! prints the environment that names them, then `ready`, and keeps them until its input ends. What the environment names already
//! is not started.

use std::io::{self, Write as _};

#[cfg(unix)]
fn main() -> io::Result<()> {
    use tailfold_testkit::servers::{
        NatsVersion, memcached_address, nats_cluster_urls, nats_url, postgres_url, redis_cluster_urls,
        redis_url,
    };

    let named: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |kind: &str| named.is_empty() || named.iter().any(|name| name == kind);
    let mut output = io::stdout();
    if is_wanted("nats") {
        for version in NatsVersion::ALL {
            writeln!(output, "{}={}", version.environment(), nats_url(version))?;
        }
        writeln!(output, "TAILFOLD_NATS_CLUSTER={}", nats_cluster_urls().join(","))?;
    }
    if is_wanted("postgres") {
        writeln!(output, "TAILFOLD_POSTGRES={}", postgres_url())?;
    }
    if is_wanted("redis") {
        writeln!(output, "TAILFOLD_REDIS={}", redis_url())?;
        writeln!(output, "TAILFOLD_REDIS_CLUSTER={}", redis_cluster_urls().join(","))?;
    }
    if is_wanted("memcached") {
        writeln!(output, "TAILFOLD_MEMCACHED={}", memcached_address())?;
    }
    writeln!(output, "ready")?;
    output.flush()?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

#[cfg(not(unix))]
fn main() -> io::Result<()> {
    writeln!(io::stderr(), "servers are started on unix only; name running ones in the environment")?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}
