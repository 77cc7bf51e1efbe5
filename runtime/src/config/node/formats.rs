//! What the texts of the node configuration must look like, one rule each.
//!
//! Called by the check of the node file and of variables; a text that does not fit becomes a problem with its place.

use url::Url;

use crate::config::setting::socket_addr;
use crate::config::table::Format;

pub(super) const NODE_NAME: Format = Format {
    expected: "a node name such as node-1",
    pattern: Some("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$|^$"),
    check: |text| {
        let good = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if good && text.len() <= 63 && !text.starts_with(['.', '_', '-']) {
            Ok(())
        } else {
            Err("up to 63 letters, digits, ., _ and -, a letter or digit first".to_owned())
        }
    },
};

pub(super) const SOCKET_ADDR: Format = Format {
    expected: "an address with a port such as 127.0.0.1:8080",
    pattern: Some(r"^.+:[0-9]{1,5}$"),
    check: |text| match socket_addr(text) {
        Some(_) => Ok(()),
        None if text.starts_with(':') => Err(format!("write 0.0.0.0{text} for every interface")),
        None if text.parse::<u16>().is_ok() => Err(format!("write 127.0.0.1:{text}")),
        None => Err("a number address and a port, 0.0.0.0 for every interface".to_owned()),
    },
};

pub(super) const URL: Format = Format {
    expected: "a URL such as https://slack.com/api/",
    pattern: Some("^https?://"),
    check: |text| match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        Ok(_) => Err("it begins with http:// or https://".to_owned()),
        Err(_) if !text.contains("://") => Err("it begins with http:// or https://".to_owned()),
        Err(error) => Err(error.to_string()),
    },
};

pub(super) const RESPONSE_HOST: Format = Format {
    expected: "a host such as hooks.slack.com",
    pattern: Some(r"^(\*\.)?[A-Za-z0-9.:\[\]-]+$"),
    check: |text| {
        let text = text.strip_prefix("*.").unwrap_or(text);
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if !text.is_empty() && text.chars().all(good) {
            Ok(())
        } else {
            Err("write the host alone, without scheme or path".to_owned())
        }
    },
};

/// A secret that travels in a header: what cannot would fail at the first request, and quietly.
pub(super) const TOKEN: Format = Format {
    expected: "a token",
    pattern: Some(r"^[!-~]+$"),
    check: |text| {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(())
        } else {
            Err("letters, digits and signs without spaces; is there a line break in it?".to_owned())
        }
    },
};

pub(super) const DATABASE_URL: Format = Format {
    expected: "postgres://…",
    pattern: Some(r"^(postgres|postgresql)://|^\$\{"),
    check: |text| scheme(text, &["postgres", "postgresql"]),
};

pub(super) const AMQP_URL: Format = Format {
    expected: "amqp://… or amqps://…",
    pattern: Some(r"^amqps?://|^\$\{"),
    check: |text| scheme(text, &["amqp", "amqps"]),
};

pub(super) const REDIS_URL: Format = Format {
    expected: "redis://… or rediss://…",
    pattern: Some(r"^rediss?://|^\$\{"),
    check: |text| scheme(text, &["redis", "rediss"]),
};

fn scheme(text: &str, schemes: &[&str]) -> Result<(), String> {
    let found = text.split_once("://").map(|(scheme, _)| scheme);
    if found.is_some_and(|found| schemes.contains(&found)) {
        Ok(())
    } else {
        Err(format!("it begins with {}://", schemes.join(":// or ")))
    }
}
