//! Passwords of URLs: from where other users of the machine do not see them, and never into a message.

use std::ffi::OsString;
use std::{env, fs};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Settings of a URL that are read here, and never by a store.
const FILE: &str = "password_file";
const ENVIRONMENT: &str = "password_env";

/// The setting of a URL of PostgreSQL that tells the password itself.
const PASSWORD: &str = "password=";
/// Whose URLs may have a password.
const SCHEMES: [&str; 6] = ["postgres", "postgresql", "nats", "tls", "redis", "rediss"];
/// Where a URL in a message ends.
const ENDS: [char; 5] = [' ', '\n', '\'', '`', '"'];
/// A name that is long is cut where it is told. As much of a secret is recognised without its end.
const BEGINNING: usize = 16;

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
    let mut settings: Vec<String> = others.into_iter().map(str::to_owned).collect();
    let place = match (login, scheme) {
        // What NATS calls a token stands alone.
        ("", "nats" | "tls") => format!("{password}@{hosts}"),
        // Before an `@`, a user without a name is not the one of this system.
        ("", "postgres" | "postgresql") => {
            settings.push(format!("{PASSWORD}{password}"));
            hosts.to_owned()
        }
        (user, _) => format!("{user}:{password}@{hosts}"),
    };
    let settings = if settings.is_empty() { String::new() } else { format!("?{}", settings.join("&")) };
    Ok(format!("{scheme}://{place}{settings}"))
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
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A percent sign without two digits stands for itself.
fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| "a setting of a URL is not UTF-8".to_owned())?.into_owned())
}

/// A message without logins and passwords of URLs: of those that it tells, and of the arguments of this command line,
/// whatever stands in them unescaped.
pub(crate) fn without_logins(message: &str, arguments: impl IntoIterator<Item = OsString>) -> String {
    let mut told = message.to_owned();
    for argument in arguments {
        for (before, secret) in secrets(&argument.to_string_lossy()) {
            told = without(&told, before, secret);
        }
    }
    without_values(&without_places(&told))
}

/// What must not be told of an argument, each with the text that it follows.
fn secrets(argument: &str) -> Vec<(&str, &str)> {
    // First, since an `@` in one of them would be taken for the end of a login.
    let settings = argument.split(['?', '&']).skip(1);
    let mut secrets: Vec<_> =
        settings.filter_map(|setting| Some((PASSWORD, setting.strip_prefix(PASSWORD)?))).collect();
    // `nats:/ada:..@h` is a URL but for a letter.
    let is_scheme = |before: &str| SCHEMES.iter().any(|scheme| before.ends_with(scheme));
    for (colon, _) in argument.match_indices(':') {
        let (before, after) = argument.split_at(colon);
        let rest = after.trim_start_matches(':').trim_start_matches('/');
        let mark = after.strip_suffix(rest).unwrap_or_default();
        if let (true, Some((login, _))) = (mark == "://" || is_scheme(before), rest.rsplit_once('@')) {
            secrets.push((mark, login));
            break;
        }
    }
    secrets
}

/// A message without a secret, or the beginning of one where the message tells no more; also as quoted by `{:?}`.
fn without(message: &str, before: &str, secret: &str) -> String {
    for form in [secret.to_owned(), secret.escape_debug().to_string()] {
        let ends = form.char_indices().map(|(at, char)| at + char.len_utf8()).rev();
        for end in ends.filter(|end| *end == form.len() || *end >= BEGINNING) {
            let found = format!("{before}{}", form.get(..end).unwrap_or_default());
            if message.contains(&found) {
                return message.replace(&found, &format!("{before}.."));
            }
        }
    }
    message.to_owned()
}

/// Without what stands between the scheme of a URL and its host. Each URL ends with a quote or a space.
fn without_places(message: &str) -> String {
    let mut told = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once("://") {
        told.push_str(before);
        told.push_str("://");
        let end = after.find(ENDS).unwrap_or(after.len());
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

/// Without the value of a setting `password`.
fn without_values(message: &str) -> String {
    let mut parts = message.split(PASSWORD);
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(ENDS).unwrap_or(part.len()).min(part.find('&').unwrap_or(part.len()));
        told.push_str(PASSWORD);
        told.push_str("..");
        told.push_str(part.get(end..).unwrap_or_default());
    }
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
            ("postgres://h/db?FILE&schema=s", "postgres://h/db?schema=s&password=PW"),
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
            ("'postgres://h/db?password=a%20b&schema=s'", "'postgres://h/db?password=..&schema=s'"),
        ] {
            assert_eq!(without_logins(message, []), told);
        }
    }

    #[test]
    fn what_stands_in_an_argument_is_told_in_no_message_however_it_is_quoted() {
        for secret in ["ge heim", "ge'heim", "ge\"heim", "ge`heim", "gé@heim", &"heim".repeat(50), "heim\\"]
        {
            for (begin, end) in [
                ("postgres://ada:", "@h/db"),
                ("--store=nats:/ada:", "@h"),
                ("tls:", "@h"),
                ("mysql://ada:", "@h/db"),
                ("postgres://ada@h/db?schema=s&password=", "&deadline=3"),
            ] {
                let argument = format!("{begin}{secret}{end}");
                let cut: String = argument.chars().take(60).collect();
                for message in [
                    format!("no `{argument}`"),
                    format!("stream {argument:?}: no"),
                    format!("{cut:?}.. (9 bytes)"),
                ] {
                    let told = without_logins(&message, [argument.clone().into()]);
                    assert!(!told.contains("heim") && !told.contains("ge"), "{message}: {told}");
                }
            }
        }
        // What is no secret is told.
        let arguments = ["postgres://a@h/db", "airport/JFK", "b@c", "ratio:3@4"].map(OsString::from);
        for message in ["show `airport/JFK`: a b@c", "ratio:3@4: a"] {
            assert_eq!(without_logins(message, arguments.clone()), message);
        }
    }
}
