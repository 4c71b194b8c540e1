//! Where a repository is: a path, or a URL that git may speak to.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// A repository, as git is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    text: String,
    /// Where it is a directory of this machine.
    local: Option<PathBuf>,
}

/// What git may speak. Others start programs of the URL's choice (`ext::`) or prove nothing about the
/// other end (`git://`, `http://`).
const SCHEMES: [&str; 3] = ["ssh://", "https://", "file://"];

impl Location {
    /// For git.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Its directory, where it is one of this machine.
    pub(super) fn local(&self) -> Option<&Path> {
        self.local.as_deref()
    }
}

/// Without a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = self.text.split_once("://").and_then(|(scheme, rest)| {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let (user, host) = authority.rsplit_once('@')?;
            let user = user.split_once(':').map(|(name, _)| name)?;
            Some(format!("{scheme}://{user}@{host}/{path}"))
        });
        f.write_str(hidden.as_deref().unwrap_or(&self.text))
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('-') || text.contains(|c: char| c.is_control()) {
            return Err("expected a directory, or a URL".to_owned());
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(Self { text: text.to_owned(), local: Some(PathBuf::from(path)) });
        }
        if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) || is_short_ssh(text) {
            return Ok(Self { text: text.to_owned(), local: None });
        }
        if text.contains("::") || text.contains("://") {
            return Err(format!("git may use {} and directories only", SCHEMES.join(", ")));
        }
        let path = std::path::absolute(text).map_err(|error| error.to_string())?;
        let text = path.to_str().ok_or("expected a path of UTF-8")?.to_owned();
        Ok(Self { text, local: Some(path) })
    }
}

/// Whether it is `user@host:path`; git takes a path with a `/` before its `:` for a directory.
fn is_short_ssh(text: &str) -> bool {
    let Some((host, path)) = text.split_once(':') else { return false };
    !host.is_empty()
        && !host.contains('/')
        && !host.starts_with('-')
        && !path.starts_with(':')
        && !path.starts_with("//")
}

/// A branch or another reference: `main`, `refs/heads/main`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    /// In full.
    pub(super) fn full(&self) -> String {
        if self.0.starts_with("refs/") { self.0.clone() } else { format!("refs/heads/{}", self.0) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Reference {
    type Err = String;

    /// Narrower than git-check-ref-format(1): nobody needs the rest.
    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let first = part.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
            first && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
        };
        let is_sound = text.split('/').all(part)
            && !text.contains("..")
            && text.split('/').all(|part| !part.ends_with('.') && part.rsplit('.').next() != Some("lock"));
        if is_sound { Ok(Self(text.to_owned())) } else { Err("expected the name of a branch".to_owned()) }
    }
}

/// A directory of the repository; empty for all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subdirectory(String);

impl Subdirectory {
    /// With `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Subdirectory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for part in Path::new(text).components() {
            match (part, part.as_os_str().to_str()) {
                (Component::Normal(_), Some(part)) => parts.push(part.to_owned()),
                (Component::CurDir, _) => {}
                _ => {
                    return Err(
                        "expected a directory within the repository, such as policies/north".to_owned()
                    );
                }
            }
        }
        Ok(Self(parts.join("/")))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_git_may_speak() {
        for text in
            ["https://git.example.org/p.git", "ssh://git@host/p", "git@host:p.git", "file:///srv/p", "/srv/p"]
        {
            assert!(text.parse::<Location>().is_ok(), "{text}");
        }
        let refused = [
            "",
            "-x",
            "http://host/p",
            "git://host/p",
            "ext::sh -c date",
            "ftp://host/p",
            "fd::1",
            "a\nb",
            "--upload-pack=x:y",
        ];
        for text in refused {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
        let local: Location = "some/where".parse().unwrap();
        assert!(local.local().unwrap().is_absolute());
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = |text: &str| text.parse::<Location>().unwrap().to_string();
        assert_eq!(shown("https://bot:secret@host/p.git"), "https://bot@host/p.git");
        assert_eq!(shown("https://host/a@b:c"), "https://host/a@b:c");
        assert_eq!(shown("git@host:p.git"), "git@host:p.git");
    }

    #[test]
    fn references_and_directories_are_plain() {
        for text in ["main", "release/7", "refs/heads/main", "v1.2"] {
            assert!(text.parse::<Reference>().is_ok(), "{text}");
        }
        for text in ["", "-x", "a..b", "a b", "+main", "a:b", "a//b", "x.lock", "@{-1}", "a^"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert_eq!("./policies/hospital/".parse::<Subdirectory>().unwrap().as_str(), "policies/hospital");
        assert_eq!(".".parse::<Subdirectory>().unwrap().as_str(), "");
        for text in ["/etc", "../x", "a/../../b"] {
            assert!(text.parse::<Subdirectory>().is_err(), "{text}");
        }
    }
}
