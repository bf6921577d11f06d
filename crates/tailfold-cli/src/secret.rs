//! Passwords of URLs: from where other users of the machine do not see them, and never into a message.

use std::fmt::Write as _;
use std::{env, fs};

/// Settings of a URL that are read here, and never by a store.
const FILE: &str = "password_file";
const ENVIRONMENT: &str = "password_env";

/// The URL with the password that its setting `password_file` or `password_env` leads to; any other text as it is.
/// The error never tells the text, which may hold a password.
pub(crate) fn with_password(url: &str) -> Result<String, String> {
    let Some((place, settings)) = url.split_once('?').filter(|_| url.contains("://")) else {
        return Ok(url.to_owned());
    };
    let is_ours =
        |setting: &&str| setting.split_once('=').is_some_and(|(name, _)| [FILE, ENVIRONMENT].contains(&name));
    let (ours, others): (Vec<&str>, Vec<&str>) = settings.split('&').partition(is_ours);
    let source = match ours.as_slice() {
        [] => return Ok(url.to_owned()),
        [source] => source,
        _ => return Err(format!("a URL takes one of `{FILE}` and `{ENVIRONMENT}`, once")),
    };
    let (name, value) = source.split_once('=').unwrap_or((source, ""));
    let password = find(name, &decoded(value)?)?;
    let (scheme, rest) = place.split_once("://").unwrap_or(("", place));
    let (login, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
    if login.contains(':') {
        return Err(format!("a URL with a password takes no `{name}`"));
    }
    let password = encoded(&password);
    let login = match (login, scheme) {
        // What NATS calls a token stands alone.
        ("", "nats" | "tls") => password,
        (user, _) => format!("{user}:{password}"),
    };
    let settings = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
    Ok(format!("{scheme}://{login}@{hosts}{settings}"))
}

fn find(name: &str, value: &str) -> Result<String, String> {
    let (found, place) = match name {
        FILE => {
            let text = fs::read_to_string(value)
                .map_err(|error| format!("cannot read the password file `{value}`: {error}"))?;
            // Editors end a line where the password ends.
            let password = text.strip_suffix('\n').unwrap_or(&text);
            (password.strip_suffix('\r').unwrap_or(password).to_owned(), "the password file")
        }
        _ => match env::var(value) {
            Ok(password) => (password, "the environment variable"),
            Err(env::VarError::NotPresent) => {
                return Err(format!("the environment variable `{value}` is not set"));
            }
            Err(env::VarError::NotUnicode(_)) => {
                return Err(format!("the environment variable `{value}` is not UTF-8"));
            }
        },
    };
    if found.is_empty() {
        return Err(format!("{place} `{value}` is empty"));
    }
    Ok(found)
}

/// Percent-encoded, so that it is a password in any URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "a percent sign without two digits stands in a URL".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = digit(rest.next()).zip(digit(rest.next())).ok_or_else(wrong)?;
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// A message without what stands between the scheme of a URL and its host. Each URL ends with a quote or a space.
pub(crate) fn without_logins(message: &str) -> String {
    let mut told = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once("://") {
        told.push_str(before);
        told.push_str("://");
        let end = after.find([' ', '\n', '\'', '`', '"']).unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        match url.rsplit_once('@') {
            Some((_, host)) => {
                told.push_str("..@");
                told.push_str(host);
            }
            None => told.push_str(url),
        }
        rest = behind;
    }
    told.push_str(rest);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_stands_where_each_kind_of_url_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a b");
        fs::write(&file, "g@h/é\r\n").unwrap();
        let file = file.display().to_string().replace(' ', "%20");
        for (url, whole) in [
            (
                "postgres://ada@h1,h2:1/db?schema=s&FILE&deadline=5",
                "postgres://ada:PW@h1,h2:1/db?schema=s&deadline=5",
            ),
            ("redis://h?FILE", "redis://:PW@h"),
            ("rediss://default@h/2?FILE", "rediss://default:PW@h/2"),
            ("nats://ada@h/bank?FILE", "nats://ada:PW@h/bank"),
            ("tls://h?FILE", "tls://PW@h"),
            ("nats://ada:pw@h?replicas=3", "nats://ada:pw@h?replicas=3"),
            ("a/file?FILE", "a/file?FILE"),
        ] {
            let url = url.replace("FILE", &format!("password_file={file}"));
            let whole = whole.replace("FILE", &format!("password_file={file}"));
            assert_eq!(with_password(&url).unwrap(), whole.replace("PW", "g%40h%2F%C3%A9"));
        }
        let two = with_password("redis://:geheim@h?password_file=/x").unwrap_err();
        assert!(!two.contains("geheim"), "{two}");
        let two = with_password(&format!("redis://:geheim@h?password_file={file}")).unwrap_err();
        assert_eq!(two, "a URL with a password takes no `password_file`");
    }

    #[test]
    fn a_message_keeps_everything_but_logins() {
        for (message, told) in [
            ("open `nats://a:b@h/x`: no", "open `nats://..@h/x`: no"),
            ("'a://u:p@q@h' and b://h:1/x", "'a://..@h' and b://h:1/x"),
            ("connect to postgres://h/db: gone", "connect to postgres://h/db: gone"),
            ("a@b: no", "a@b: no"),
        ] {
            assert_eq!(without_logins(message), told);
        }
    }
}
