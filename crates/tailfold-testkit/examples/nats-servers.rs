//! Starts the servers that a run of tests shares, prints the environment that names them, then `ready`, and keeps them until
//! its input ends. What the environment names already is not started.

use std::io::{self, Write as _};

#[cfg(unix)]
fn main() -> io::Result<()> {
    use tailfold_testkit::servers::{NatsVersion, nats_cluster_urls, nats_url};

    let mut output = io::stdout();
    for version in NatsVersion::ALL {
        writeln!(output, "{}={}", version.environment(), nats_url(version))?;
    }
    writeln!(output, "TAILFOLD_NATS_CLUSTER={}", nats_cluster_urls().join(","))?;
    writeln!(output, "ready")?;
    output.flush()?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

#[cfg(not(unix))]
fn main() -> io::Result<()> {
    writeln!(io::stderr(), "servers are started on unix only; name running ones in the environment")?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}
