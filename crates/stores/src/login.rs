//! A user's name and password, as they may stand in a place; the password is never shown.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

/// What stands for a password.
const MASK: &str = "***";

/// Who asks. Neither [`fmt::Display`] nor [`fmt::Debug`] shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: Option<String>,
}

impl Login {
    /// A user, with a password where it is known.
    #[must_use]
    pub fn new(user: impl Into<String>, password: Option<String>) -> Self {
        Self { user: user.into(), password }
    }

    /// The login in an address.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let password = url.password().map(decoded);
        let user = decoded(url.username());
        (!user.is_empty() || password.is_some()).then_some(Self { user, password })
    }

    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password. It is a secret.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        if self.password.is_some() { write!(f, ":{MASK}") } else { Ok(()) }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({self})")
    }
}

/// A text in which somebody may have typed a place, without the password in that place.
#[must_use]
pub fn masked(text: &str) -> String {
    let Some(begin) = text.find("rest:") else { return text.to_owned() };
    let Some(host) = text[begin..].find("://").map(|at| begin + at + "://".len()) else {
        return text.to_owned();
    };
    let end = text[host..].find(['/', '?', '#']).map_or(text.len(), |at| host + at);
    // A password that holds one of these as it is reaches farther: to the last `@` of all.
    let Some(at) = text[host..end].rfind('@').or_else(|| text[host..].rfind('@')) else {
        return text.to_owned();
    };
    match text[host..host + at].find(':') {
        Some(colon) => {
            format!("{}:{MASK}{}", &text[..host + colon], &text[host + at..])
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_without_its_password_wherever_it_stands() {
        for (text, shown) in [
            ("rest:http://a:b@host/x", "rest:http://a:***@host/x"),
            ("--repository=rest:https://a:b:c@host/", "--repository=rest:https://a:***@host/"),
            ("-rrest:http://:b@host/", "-rrest:http://:***@host/"),
            ("rest:http://a:b@c@host/x", "rest:http://a:***@host/x"),
            ("rest:http://a:b/c@host/x", "rest:http://a:***@host/x"),
            ("rest:http://a@host/x", "rest:http://a@host/x"),
            ("rest:http://host:8000/x", "rest:http://host:8000/x"),
            ("s3:http://host/a:b@c", "s3:http://host/a:b@c"),
            ("restore", "restore"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }
}
