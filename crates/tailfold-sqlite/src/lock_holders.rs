//! Who has a read transaction open on a file, for a warning.

use std::fmt;
use std::path::Path;

/// Processes that hold a lock of SQLite's as readers of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    /// Number and name; empty where the system does not tell.
    processes: Vec<(u32, String)>,
}

/// Those that read from the log of a file now. A process that reads from the file alone holds such a lock, too.
pub(crate) fn readers_of(path: &Path) -> Holders {
    system::readers_of(path)
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.processes.is_empty() {
            return f.write_str("unknown (`lsof` of the `-shm` file names who has it open)");
        }
        for (index, (pid, name)) in self.processes.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let own = if *pid == std::process::id() { ", this process" } else { "" };
            write!(f, "{comma}process {pid} ({name}{own})")?;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use super::Holders;
    use crate::path;

    /// Bytes of the `-shm` file that readers lock, from the format of SQLite's index of the log.
    const READ_LOCKS: std::ops::RangeInclusive<u64> = 123..=127;

    pub(super) fn readers_of(store: &Path) -> Holders {
        // Only told to people: whatever cannot be found out is left out.
        let (Ok(metadata), Ok(locks)) =
            (fs::metadata(path::companion(store, "-shm")), fs::read_to_string("/proc/locks"))
        else {
            return Holders::default();
        };
        let mut pids: Vec<u32> =
            locks.lines().filter_map(|line| holder(line, metadata.ino())).filter(|pid| *pid != 0).collect();
        pids.sort_unstable();
        pids.dedup();
        let name = |pid: u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        };
        Holders { processes: pids.into_iter().map(name).collect() }
    }

    /// The process of a line like `1: POSIX  ADVISORY  READ 4711 08:01:1234 124 124`, if that is a reader's lock on the file.
    fn holder(line: &str, inode: u64) -> Option<u32> {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "POSIX", _, "READ", pid, file, first, last] = fields.as_slice() else { return None };
        let (_, number) = file.rsplit_once(':')?;
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        // Neighbouring locks of one process are told as one.
        let reads = first <= *READ_LOCKS.end() && last >= *READ_LOCKS.start();
        (number.parse() == Ok(inode) && reads).then(|| pid.parse().ok())?
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_locks_of_readers_of_the_file_count() {
            for (line, expected) in [
                ("1: POSIX  ADVISORY  READ 4711 08:01:77 124 124", Some(4711)),
                ("2: POSIX  ADVISORY  READ 4711 08:01:77 123 128", Some(4711)),
                ("3: POSIX  ADVISORY  READ 4711 08:01:77 128 128", None),
                ("4: POSIX  ADVISORY  WRITE 4711 08:01:77 120 120", None),
                ("5: POSIX  ADVISORY  READ 4711 08:01:78 124 124", None),
                ("6: -> POSIX  ADVISORY  READ 4711 08:01:77 124 124", None),
                ("", None),
            ] {
                assert_eq!(holder(line, 77), expected, "{line}");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;

    use super::Holders;

    pub(super) fn readers_of(_: &Path) -> Holders {
        Holders::default()
    }
}
