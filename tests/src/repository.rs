//! A repository of policies with real git, and keys that sign its commits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::namespace::tool;

/// A bare repository that gateways follow, and the work tree of those who change it.
#[derive(Debug)]
pub struct Repository {
    directory: PathBuf,
}

/// A key for ssh signatures.
#[derive(Clone, Debug)]
pub struct Key {
    path: PathBuf,
}

impl Repository {
    /// An empty one below `directory`.
    pub fn create(directory: &Path) -> Result<Self> {
        let repository = Self { directory: directory.to_owned() };
        fs::create_dir_all(directory)?;
        tool(git().args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(repository.url()))?;
        tool(git().args(["clone", "--quiet"]).arg(repository.url()).arg(repository.tree()))?;
        repository.git(&["checkout", "--quiet", "-B", "main"])?;
        Ok(repository)
    }

    /// What gateways are told.
    pub fn url(&self) -> PathBuf {
        self.directory.join("policy.git")
    }

    /// The work tree.
    pub fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// Makes a key.
    pub fn key(&self, name: &str) -> Result<Key> {
        let path = self.directory.join(format!("key-{name}"));
        let mut command = Command::new("ssh-keygen");
        tool(command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path))?;
        Ok(Key { path })
    }

    /// A file of keys that may sign, with the name of each.
    pub fn allowed_signers(&self, keys: &[(&str, &Key)]) -> Result<PathBuf> {
        let path = self.directory.join("allowed-signers");
        let mut text = String::new();
        for (name, key) in keys {
            let public = fs::read_to_string(key.public())?;
            text.extend([name, " namespaces=\"git\" ", &public]);
        }
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Commits everything in the work tree, signed where there is a key; returns the commit.
    pub fn commit(&self, message: &str, key: Option<&Key>) -> Result<String> {
        self.git(&["add", "--all"])?;
        let signing;
        let mut arguments = vec!["commit", "--quiet", "--allow-empty", "--message", message];
        if let Some(key) = key {
            signing = format!("user.signingKey={}", key.path.display());
            arguments.splice(0..0, ["-c", "gpg.format=ssh", "-c", &signing]);
            arguments.push("-S");
        }
        self.git(&arguments)?;
        self.head()
    }

    /// The commit of the work tree.
    pub fn head(&self) -> Result<String> {
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Pushes what is committed, over whatever was there.
    pub fn push(&self) -> Result<()> {
        self.git(&["push", "--quiet", "--force", "origin", "HEAD:main"]).map(drop)
    }

    /// Commits and pushes.
    pub fn publish(&self, message: &str, key: Option<&Key>) -> Result<String> {
        let commit = self.commit(message, key)?;
        self.push()?;
        Ok(commit)
    }

    /// Goes back to a commit, as if nothing had come after it.
    pub fn reset(&self, commit: &str) -> Result<()> {
        self.git(&["reset", "--quiet", "--hard", commit])?;
        self.git(&["clean", "--quiet", "-fd"]).map(drop)
    }

    /// Runs git in the work tree.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        tool(git().arg("-C").arg(self.tree()).args(arguments))
    }

    /// Gives the newest commit the signature of another one, and pushes that.
    pub fn forge(&self, signed: &str) -> Result<String> {
        let signed = self.git(&["cat-file", "commit", signed])?;
        let signature: Vec<&str> = signed
            .lines()
            .skip_while(|line| !line.starts_with("gpgsig "))
            .take_while(|line| line.starts_with("gpgsig ") || line.starts_with(' '))
            .collect();
        ensure!(!signature.is_empty(), "that commit has no signature to copy");
        let text = self.git(&["cat-file", "commit", "HEAD"])?;
        let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
        let forged = format!("{head}\n{}\n\n{message}", signature.join("\n"));
        let file = self.directory.join("forged");
        fs::write(&file, forged)?;
        let path = file.display().to_string();
        let commit = self.git(&["hash-object", "-t", "commit", "-w", &path])?.trim().to_owned();
        self.git(&["reset", "--quiet", "--soft", &commit])?;
        self.push()?;
        Ok(commit)
    }
}

impl Key {
    fn public(&self) -> PathBuf {
        self.path.with_extension("pub")
    }
}

/// git as somebody with a name and no settings.
fn git() -> Command {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "Mori Aya").env(format!("GIT_{role}_EMAIL"), "mori@example.org");
    }
    git
}
