//! By how much a load raises the peak of a process's memory: measured in a child, which has done nothing else.

use std::ffi::OsStr;
use std::process::Stdio;

use super::Result;

/// In MiB, of a child that loads from this store.
pub(crate) async fn growth_in_child(store: impl AsRef<OsStr> + Send + 'static) -> Result<f64> {
    tokio::task::spawn_blocking(move || {
        let child = std::process::Command::new(std::env::current_exe()?)
            .arg("--measure-memory-of")
            .arg(store)
            .stderr(Stdio::inherit())
            .output()?;
        if !child.status.success() {
            return Err(format!("the process whose memory is measured ended with {}", child.status).into());
        }
        Ok(String::from_utf8(child.stdout)?.trim().parse()?)
    })
    .await?
}

/// What the child does.
pub(crate) async fn print_growth(load: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let before = peak_kib()?;
    tokio::spawn(load).await??;
    println!("{:.3}", (peak_kib()? - before) / 1024.0);
    Ok(())
}

/// VmHWM: the most memory that was ever resident.
fn peak_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
