//! Where a store is, as the command line tells it.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind as UsageError;
use clap::{Arg, Command};
#[cfg(feature = "nats")]
use tailfold_nats::NatsConfig;
#[cfg(feature = "postgres")]
use tailfold_postgres::PostgresConfig;

use super::Location;
use crate::secret::with_password;

impl FromStr for Location {
    type Err = String;

    /// A URL may say where its password is: `password_file=PATH` or `password_env=VARIABLE`. The error never
    /// tells the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let path = match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => return postgres(&with_password(text)?),
            Some(("nats" | "tls", _)) => return nats(&with_password(text)?),
            Some((scheme, _)) => {
                return Err(format!(
                    "no stores of scheme `{scheme}://` in this release: name a file, as a path or as `sqlite:PATH`, or a \
                     store on a server, as `postgres://HOST[:PORT][/DATABASE]` or `nats://HOST[:PORT][/NAME]`"
                ));
            }
            // Taken for a path, it would be told.
            None if is_nearly_a_url(text) => {
                return Err(
                    "a URL has `//` after the colon; write `./` in front of a path like this".to_owned()
                );
            }
            None => text.strip_prefix("sqlite:").unwrap_or(text),
        };
        if path.is_empty() {
            return Err("the path is empty".to_owned());
        }
        sqlite(path.into())
    }
}

#[cfg(feature = "sqlite")]
pub(super) fn sqlite(path: PathBuf) -> Result<Location, String> {
    Ok(Location::Sqlite(path))
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Result<Location, String> {
    let config = url.parse::<PostgresConfig>().map_err(|error| error.to_string())?;
    Ok(Location::Postgres(Box::new(config)))
}

#[cfg(feature = "nats")]
fn nats(url: &str) -> Result<Location, String> {
    let config = url.parse::<NatsConfig>().map_err(|error| error.to_string())?;
    Ok(Location::Nats(Box::new(config)))
}

#[cfg(not(feature = "sqlite"))]
pub(super) fn sqlite(_: PathBuf) -> Result<Location, String> {
    Err(absent("stores in files", "sqlite"))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str) -> Result<Location, String> {
    Err(absent("stores on PostgreSQL", "postgres"))
}

#[cfg(not(feature = "nats"))]
fn nats(_: &str) -> Result<Location, String> {
    Err(absent("stores on NATS", "nats"))
}

/// Why a place is refused that another build of this program knows.
#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "nats", feature = "redis")))]
pub(crate) fn absent(what: &str, feature: &str) -> String {
    format!("this program was built without {what} (feature `{feature}` of tailfold-cli)")
}

/// Whether a path begins as a URL does.
fn is_nearly_a_url(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    matches!(scheme, Some("postgres" | "postgresql" | "nats" | "tls" | "redis" | "rediss"))
}

/// Without what must stay secret.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => path.display().fmt(f),
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => config.fmt(f),
            #[cfg(feature = "nats")]
            Self::Nats(config) => config.fmt(f),
        }
    }
}

/// Reads a location from the command line. A message of clap's own would tell the whole value, password and all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocationParser(
    /// As the usage names the argument.
    pub(crate) &'static str,
);

impl TypedValueParser for LocationParser {
    type Value = Location;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Location, clap::Error> {
        let parsed = match value.to_str() {
            Some(text) => text.parse(),
            None => sqlite(value.into()),
        };
        parsed.map_err(|reason: String| refused(command, self.0, &reason))
    }
}

/// A value that is wrong, without the value.
pub(crate) fn refused(command: &Command, argument: &str, reason: &str) -> clap::Error {
    let message = format!("invalid value for '{argument}': {reason}\n");
    clap::Error::raw(UsageError::ValueValidation, message).with_cmd(command)
}

#[cfg(all(test, feature = "sqlite", feature = "postgres", feature = "nats"))]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_store_is_a_path_or_a_url_of_a_scheme_that_is_known() {
        let location = |text: &str| text.parse::<Location>();
        for text in ["sqlite:a/b.db", "a/b.db"] {
            assert!(matches!(location(text), Ok(Location::Sqlite(path)) if path == Path::new("a/b.db")));
        }
        for (text, shown) in [
            ("nats://ada:geheim@h1,h2:4333/bank?replicas=3", "nats://h1,h2:4333/bank"),
            ("tls://h", "tls://h/tf"),
        ] {
            assert_eq!(location(text).unwrap().to_string(), shown);
        }
        for (text, reason) in [
            ("mysql://ada:geheim@h/db", "`mysql://`"),
            ("postgres://ada:geheim@h/db?color=red", "color"),
            ("nats://ada:geheim@h/a.b", "store name"),
            ("sqlite:", "the path is empty"),
        ] {
            let error = location(text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("geheim"), "{error}");
        }
    }
}
