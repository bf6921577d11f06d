//! A server's process that ends with whoever started it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// For threads to stop that were told to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at something that is awaited.
pub(crate) const GLANCE: Duration = Duration::from_millis(5);

/// Starts a server and says its id, then does as told line by line and says on its standard error when that is done: sends it
/// a signal, collects its exit status (`reap`), or goes away (`leave`). When its input ends, its owner is gone: it kills the
/// server and removes the directory.
///
/// An unreaped server keeps its process id, so that no signal can hit another process. That is why the shell waits for lines
/// with its own `read` and never for a program, which would reap. When the owner of a paused server dies, the system hangs up
/// on the group that both are left in; the shell must survive that, and saying that it is done to nobody.
const KEEPER: &str = r#"
directory=$1 log=$2
shift 2
"$@" </dev/null 2>>"$log" &
server=$!
trap '' HUP INT PIPE TERM
echo "$server"
exec 3>&2 >/dev/null 2>&1
signal_family() {
    kill -s STOP "$server"
    family=
    if [ -r "/proc/$server/task/$server/children" ]; then
        read -r family <"/proc/$server/task/$server/children"
    else
        family=$(ps -A -o pid= -o ppid= | while read -r pid parent; do [ "$parent" = "$server" ] && echo "$pid"; done)
    fi
    for child in $family; do kill -s "$1" "$child"; done
    kill -s "$1" "$server"
}
while read -r word; do
    case $word in
        reap) if [ -n "$server" ]; then wait "$server"; server=; fi ;;
        leave) exit ;;
        KILL | STOP | CONT) if [ -n "$server" ]; then signal_family "$word"; fi ;;
        *) if [ -n "$server" ]; then kill -s "$word" "$server"; fi ;;
    esac
    echo "$word" >&3
done
if [ -n "$server" ]; then
    signal_family KILL
    wait "$server"
fi
if [ -n "$directory" ]; then
    # What was forked may take a moment to end.
    rm -rf "$directory" || { sleep 1; rm -rf "$directory"; }
fi
"#;

/// A started server with its keeper: a shell that outlives the owner for as long as it takes to kill the server.
#[derive(Debug)]
pub(crate) struct Process {
    keeper: Child,
    done: BufReader<ChildStderr>,
    pid: u32,
    /// Ends when the server does, with all that it forked: they alone hold the other end of the pipe.
    until_end: JoinHandle<()>,
    log: PathBuf,
    log_start: u64,
}

impl Process {
    /// Runs `program`, whose standard error is added to `log`. `temporary` is removed when the owner is gone.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
        temporary: Option<&Path>,
    ) -> io::Result<Self> {
        let log_start = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(temporary.unwrap_or(Path::new("")))
            .arg(log)
            .arg(program)
            .args(arguments)
            // Out of reach for signals to the owner's group, such as the interrupt key.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let done = BufReader::new(keeper.stderr.take().expect("it was asked for a pipe"));
        let mut output = BufReader::new(keeper.stdout.take().expect("it was asked for a pipe"));
        let mut pid = String::new();
        output.read_line(&mut pid)?;
        let pid = pid.trim().parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("sh said `{}` for a process id", pid.trim()))
        })?;
        let until_end = thread::Builder::new().name(format!("end-of-{pid}")).spawn(move || {
            let _ = io::copy(&mut output, &mut io::sink());
        })?;
        Ok(Self { keeper, done, pid, until_end, log: log.to_owned(), log_start })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.until_end.is_finished()
    }

    /// Sends a signal, named as `kill -s` names it; `KILL`, `STOP` and `CONT` also to what the server forked. Nothing happens
    /// if the server has ended.
    pub(crate) fn signal(&mut self, name: &str) -> io::Result<()> {
        self.tell(name)?;
        let mut done = String::new();
        self.done.read_line(&mut done)?;
        if done.trim_end() == name {
            Ok(())
        } else {
            Err(io::Error::other(format!("tell the keeper of process {} to {name}: `{done}`", self.pid)))
        }
    }

    /// Waits until all threads of the server have stopped, which they have not yet when the signal is sent. Where the system does not
    /// tell, they get a moment.
    pub(crate) fn wait_until_stopped(&self) -> io::Result<()> {
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.is_running() {
            let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
                thread::sleep(GLANCE);
                break;
            };
            // Of a thread that has ended meanwhile there is nothing to read.
            let mut states = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
            // The state follows the program's name, which is in brackets.
            let has_stopped = |stat: String| {
                stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
            };
            if states.all(has_stopped) {
                break;
            }
            if Instant::now() > deadline {
                let problem = format!("process {} goes on although it was stopped", self.pid);
                return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Sends a signal that ends the server, and waits until it has ended.
    pub(crate) fn end_by(&mut self, signal: &str, patience: Duration) -> io::Result<()> {
        if self.is_running() {
            self.signal(signal)?;
            let deadline = Instant::now() + patience;
            while self.is_running() {
                if Instant::now() > deadline {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("end process {} by {signal}: it still runs after {patience:?}", self.pid),
                    ));
                }
                thread::sleep(GLANCE);
            }
        }
        self.signal("reap")
    }

    /// Lets the keeper go, so that another one can take care of the directory. The server must have ended.
    pub(crate) fn dismiss(mut self) -> io::Result<()> {
        self.tell("leave")?;
        self.keeper.wait().map(drop)
    }

    /// What was logged since this start; of much only the end.
    pub(crate) fn log_tail(&self) -> String {
        const MOST: u64 = 4096;
        let read = || {
            let mut log = File::open(&self.log)?;
            let end = log.seek(SeekFrom::End(0))?;
            log.seek(SeekFrom::Start(self.log_start.max(end.saturating_sub(MOST))))?;
            let mut tail = Vec::new();
            log.read_to_end(&mut tail)?;
            io::Result::Ok(String::from_utf8_lossy(&tail).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }

    fn tell(&self, word: &str) -> io::Result<()> {
        let mut keeper = self.keeper.stdin.as_ref().expect("it was asked for a pipe");
        keeper.write_all(format!("{word}\n").as_bytes())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The keeper sees the end of its input, and ends when it has cleaned up.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
