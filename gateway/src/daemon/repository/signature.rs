//! Whether a commit is signed by somebody who may.

use super::git::{Git, GitError};
use super::{Access, plain};

/// Why a commit's signature does not count.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// It has none.
    #[error("it is not signed")]
    Unsigned,
    /// It has one of a kind for which no keys are known.
    #[error("it has {kind} signature, and {option} is not given")]
    NoKeys {
        /// Such as `an ssh`.
        kind: &'static str,
        /// Option that would name the keys.
        option: &'static str,
    },
    /// It has one of a kind that is not read.
    #[error("it has a signature that is neither of ssh nor of OpenPGP")]
    Kind,
    /// The signature is not that of this commit, or of a key that is not known, expired or revoked.
    #[error("its signature does not count: {0}")]
    Refused(String),
    /// git could not tell.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Header of a commit that holds its signature, in repositories of SHA-1 and of SHA-256.
const HEADERS: [&str; 2] = ["gpgsig ", "gpgsig-sha256 "];

/// The signer of a commit: name, and fingerprint of the key.
pub(super) fn verify(git: &Git, access: &Access, commit: &str) -> Result<String, Unverified> {
    let text = git.ask(&["cat-file", "commit", commit])?;
    let kind = armour(&String::from_utf8_lossy(&text)).ok_or(Unverified::Unsigned)?;
    let is_ssh = match kind.as_str() {
        "-----BEGIN SSH SIGNATURE-----" => true,
        "-----BEGIN PGP SIGNATURE-----" => false,
        _ => return Err(Unverified::Kind),
    };
    if is_ssh && access.allowed_signers.is_none() {
        return Err(Unverified::NoKeys { kind: "an ssh", option: "--allowed-signers" });
    }
    if !is_ssh && access.keyring.is_none() {
        return Err(Unverified::NoKeys { kind: "an OpenPGP", option: "--keyring" });
    }
    match git.ask(&["verify-commit", commit]) {
        Ok(_) => {}
        Err(GitError::Failed { said, .. }) => return Err(Unverified::Refused(said)),
        Err(error) => return Err(error.into()),
    }
    let format = "--format=%G?%x00%GS%x00%GF";
    let answer = git.ask_text(&["log", "-1", "--no-show-signature", format, commit])?;
    let mut fields = answer.split('\0');
    let (Some(grade), Some(name), Some(key)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(GitError::Answer { what: "log".to_owned() }.into());
    };
    // G: good. U: good, of a key whose owner nobody vouched for: GnuPG's trust is not asked, the keyring is the list
    // of those who may. For ssh it would mean a key that is not in the file.
    if grade != "G" && (is_ssh || grade != "U") {
        return Err(Unverified::Refused(format!("git grades it {}", plain(grade, 1))));
    }
    Ok(plain(&format!("{name} ({key})"), 200))
}

/// First line of a commit's signature; `None` where it has none.
fn armour(commit: &str) -> Option<String> {
    let headers = commit.lines().take_while(|line| !line.is_empty());
    let mut found = headers.filter_map(|line| HEADERS.iter().find_map(|header| line.strip_prefix(header)));
    found.next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::armour;

    #[test]
    fn a_signature_stands_in_the_header_and_nowhere_else() {
        let signed = "tree a\ngpgsig -----BEGIN SSH SIGNATURE-----\n abc\n\nsubject\n";
        assert_eq!(armour(signed).as_deref(), Some("-----BEGIN SSH SIGNATURE-----"));
        let posing = "tree a\nauthor b\n\ngpgsig -----BEGIN SSH SIGNATURE-----\n";
        assert_eq!(armour(posing), None);
    }
}
