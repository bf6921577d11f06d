//! A network of its own for each server of a cluster, so that single servers can be cut off from all others and from
//! clients. Linux only, and it takes root and iproute2.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio, id};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes a bridge, and namespaces that are plugged into it; then plugs and unplugs them as told line by line. When its input
/// ends, its owner is gone: it removes everything.
///
/// Addresses are taken from the block for tests between networks (RFC 2544), from a part that nobody on this machine uses.
const KEEPER: &str = r#"
bridge=$1 size=$2
trap '' HUP INT PIPE TERM
clean_up() {
    index=1
    while [ $index -le $size ]; do
        # Something else may keep the namespace for a while; nothing is in it any more.
        ip link del "$bridge-$index" 2>/dev/null
        ip netns del "$bridge-$index" 2>/dev/null
        index=$((index + 1))
    done
    ip link del "$bridge" 2>/dev/null
}
make() {
    block=
    for third in $(seq $(($$ % 256)) 255) $(seq 0 255); do
        if [ -z "$(ip -4 address show to 198.18.$third.0/24)" ]; then block=198.18.$third; break; fi
    done
    [ -n "$block" ] || { echo "no free block of addresses in 198.18.0.0/16" >&2; return 1; }
    ip link add "$bridge" type bridge && ip address add "$block.254/24" dev "$bridge" && ip link set "$bridge" up || return 1
    index=1
    while [ $index -le $size ]; do
        name=$bridge-$index
        ip netns add "$name" &&
            ip link add "$name" type veth peer name eth0 netns "$name" &&
            ip link set "$name" master "$bridge" up &&
            ip -n "$name" link set lo up &&
            ip -n "$name" address add "$block.$index/24" dev eth0 &&
            ip -n "$name" link set eth0 up || return 1
        index=$((index + 1))
    done
}
# Lets one server and the others send each other nothing any more, or again; clients reach all of them.
between_servers() {
    index=1
    while [ $index -le $size ]; do
        if [ $index != "$2" ]; then
            ip -n "$bridge-$2" route "$1" blackhole "$block.$index/32" &&
                ip -n "$bridge-$index" route "$1" blackhole "$block.$2/32" || return 1
        fi
        index=$((index + 1))
    done
}
change() {
    case $1 in
        part) between_servers add "$2" ;;
        join) between_servers del "$2" ;;
        *) ip link set "$bridge-$2" "$1" ;;
    esac
}
if problem=$(make 2>&1); then
    block=$(ip -4 -oneline address show dev "$bridge" | sed 's/.* inet \([0-9.]*\)\.254.*/\1/')
    echo "$block"
else
    echo "failed: $problem" | tr '\n' ' '
    echo
fi
while read -r state index; do
    if problem=$(change "$state" "$index" 2>&1); then echo done; else echo "$problem" | tr '\n' ' '; echo; fi
done
clean_up
"#;

/// Namespaces on a bridge. They go with this value, and at the latest with this process.
#[derive(Debug)]
pub(crate) struct Network {
    bridge: String,
    hosts: Vec<Ipv4Addr>,
    keeper: Mutex<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Network {
    /// One namespace for each of `size` servers.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the machine has no namespaces or does not let this process make any.
    pub(crate) fn create(size: usize) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A link's name has 15 bytes at most.
        let bridge = format!("tf{:x}-{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut process = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &bridge, &size.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let said = BufReader::new(process.stdout.take().expect("it was asked for a pipe"));
        let mut keeper = Keeper { process, said };
        let block = keeper.listen()?;
        let hosts = (1..=size).map(|index| format!("{block}.{index}").parse::<Ipv4Addr>());
        let hosts = hosts.collect::<Result<Vec<_>, _>>().map_err(|_| {
            let problem = format!("make network namespaces (needs Linux, root and iproute2): {block}");
            io::Error::new(io::ErrorKind::Unsupported, problem)
        })?;
        Ok(Self { bridge, hosts, keeper: Mutex::new(keeper) })
    }

    /// The address of a server.
    pub(crate) fn host(&self, index: usize) -> Ipv4Addr {
        self.hosts.get(index).copied().unwrap_or_else(|| panic!("no host {index} of {}", self.hosts.len()))
    }

    /// What runs a program where a server lives.
    pub(crate) fn namespace(&self, index: usize) -> String {
        format!("{}-{}", self.bridge, index + 1)
    }

    /// Nothing reaches the server any more, and nothing comes from it.
    pub(crate) fn cut(&self, index: usize) -> io::Result<()> {
        self.tell("down", index)
    }

    pub(crate) fn heal(&self, index: usize) -> io::Result<()> {
        self.tell("up", index)
    }

    /// The server and the others reach each other no more; clients still reach all of them.
    pub(crate) fn part(&self, index: usize) -> io::Result<()> {
        self.tell("part", index)
    }

    pub(crate) fn join(&self, index: usize) -> io::Result<()> {
        self.tell("join", index)
    }

    fn tell(&self, state: &str, index: usize) -> io::Result<()> {
        let mut keeper = self.keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut input = keeper.process.stdin.as_ref().expect("it was asked for a pipe");
        input.write_all(format!("{state} {}\n", index + 1).as_bytes())?;
        match keeper.listen()?.as_str() {
            "done" => Ok(()),
            problem => {
                Err(io::Error::other(format!("set the network of server {index} to {state}: {problem}")))
            }
        }
    }
}

impl Keeper {
    fn listen(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It sees the end of its input, and ends when it has cleaned up.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
