//! Where snapshots are kept: in the tier of `--snapshots`, if one is named, and in the store of events.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Arg, Command};
use tailfold::{SlotFilter, SnapshotStore, SnapshotStoreExt as _, Store, Tier};
#[cfg(feature = "redis")]
use tailfold_redis::RedisConfig;

use crate::error::Result;
use crate::secret::with_password;
use crate::store::{Open, refused};

/// Where a snapshot tier is: the URL of a Redis. Other schemes are refused by name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SnapshotLocation {
    /// A Redis server, or a cluster.
    #[cfg(feature = "redis")]
    Redis(Box<RedisConfig>),
}

/// How long a load waits for the near tier.
const NEAR_TIMEOUT: Duration = Duration::from_secs(1);

/// What keeps snapshots, nearest first.
#[derive(Clone, Debug)]
pub(crate) struct Tiers {
    near: Option<(&'static str, Arc<dyn SnapshotStore>)>,
    own: Arc<dyn Store>,
}

impl SnapshotLocation {
    /// Connects. A service goes on without its tier; whoever names one here wants to see it.
    #[cfg(feature = "redis")]
    async fn open(&self) -> Result<(&'static str, Arc<dyn SnapshotStore>)> {
        let Self::Redis(config) = self;
        let snapshots = config.as_ref().clone().connect().await?;
        // Connecting succeeds where no server answers; this key is none that a stream could have.
        let asked =
            futures_util::TryStreamExt::try_next(&mut snapshots.list(SlotFilter::key("tailfold"))).await;
        asked.map_err(|error| crate::error::Error::Refused(format!("connect to {config}: {error}")))?;
        Ok(("redis", Arc::new(snapshots)))
    }

    /// There are none.
    #[cfg(not(feature = "redis"))]
    async fn open(&self) -> Result<(&'static str, Arc<dyn SnapshotStore>)> {
        match *self {}
    }
}

impl Tiers {
    pub(crate) async fn open(named: Option<&SnapshotLocation>, store: &Open) -> Result<Self> {
        let near = match named {
            Some(location) => Some(location.open().await?),
            None => None,
        };
        Ok(Self { near, own: store.store() })
    }

    /// Whether there is more than the store of events, so that an answer must say which tier it is about.
    pub(crate) fn are_several(&self) -> bool {
        self.near.is_some()
    }

    /// Each with its name.
    pub(crate) fn each(&self) -> Vec<(&'static str, Arc<dyn SnapshotStore>)> {
        let own: Arc<dyn SnapshotStore> = Arc::new(self.own.clone());
        self.near.iter().cloned().chain([("own", own)]).collect()
    }

    /// As a repository takes them. The near one has more time than a service would give it: where it came from is to be shown.
    pub(crate) fn chain(&self) -> Vec<Tier> {
        let near =
            self.near.iter().map(|(name, store)| Tier::new(*name, store.clone()).timeout(NEAR_TIMEOUT));
        near.chain([Tier::own()]).collect()
    }

    /// Removes from the near tier the snapshots of a fold that the store has too: of a projection, whose key others may have, so
    /// that only the store's own events tell them apart.
    pub(crate) async fn forget_fold_in_near(&self, fold: &str) -> Result<()> {
        let Some((_, near)) = &self.near else { return Ok(()) };
        for info in self.own.list_to_vec(SlotFilter::fold(fold)).await? {
            let newest = near.newest(&info.slot, Some(info.head.version)).await?;
            if let Some(copy) = newest.filter(|copy| copy.head == info.head) {
                near.compare_and_remove(&info.slot, &copy).await?;
            }
        }
        Ok(())
    }

    /// Removes from the near tier what belongs to streams of a store that goes.
    pub(crate) async fn forget_in_near(&self, streams: impl Iterator<Item = String> + Send) -> Result<()> {
        if let Some((_, near)) = &self.near {
            for stream in streams {
                near.forget(&stream).await?;
            }
        }
        Ok(())
    }
}

impl FromStr for SnapshotLocation {
    type Err = String;

    /// A URL may say where its password is: `password_file=PATH` or `password_env=VARIABLE`. The error never
    /// tells the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("redis" | "rediss", _)) => redis(&with_password(text)?),
            Some((scheme, _)) => Err(format!(
                "no snapshot tiers of scheme `{scheme}://` in this release: name a Redis as `redis://HOST[:PORT]`"
            )),
            None => Err("a tier is named by a URL, `redis://HOST[:PORT]`".to_owned()),
        }
    }
}

#[cfg(feature = "redis")]
fn redis(url: &str) -> Result<SnapshotLocation, String> {
    let config = url.parse::<RedisConfig>().map_err(|error| error.to_string())?;
    Ok(SnapshotLocation::Redis(Box::new(config)))
}

#[cfg(not(feature = "redis"))]
fn redis(_: &str) -> Result<SnapshotLocation, String> {
    Err(crate::store::absent("snapshots on Redis", "redis"))
}

/// Without what must stay secret.
impl fmt::Display for SnapshotLocation {
    #[cfg(feature = "redis")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Redis(config) = self;
        config.fmt(f)
    }

    #[cfg(not(feature = "redis"))]
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Reads a tier from the command line, as [`LocationParser`](crate::store::LocationParser) does a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotLocationParser;

impl TypedValueParser for SnapshotLocationParser {
    type Value = SnapshotLocation;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<SnapshotLocation, clap::Error> {
        let text = value.to_str().ok_or_else(|| "it is not UTF-8".to_owned());
        text.and_then(str::parse).map_err(|reason| refused(command, "--snapshots <TIER>", &reason))
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_a_url_of_a_scheme_that_is_known() {
        let location = |text: &str| text.parse::<SnapshotLocation>();
        for (text, shown) in [
            ("redis://:geheim@h:6380/2?name=bank", "redis://h:6380/2?name=bank"),
            ("rediss://ada:geheim@h", "rediss://h:6379/0?name=tf"),
        ] {
            let parsed = location(text).unwrap();
            assert!(parsed.to_string().starts_with(shown.split_once("://").unwrap().0), "{parsed}");
            assert!(!parsed.to_string().contains("geheim"), "{parsed}");
            assert!(!format!("{parsed:?}").contains("geheim"), "{parsed:?}");
        }
        for (text, reason) in [
            ("memcached://ada:geheim@h", "`memcached://`"),
            ("redis://ada:geheim@h?color=red", "color"),
            ("cache.db", "by a URL"),
        ] {
            let error = location(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("geheim"), "{error}");
        }
    }
}
