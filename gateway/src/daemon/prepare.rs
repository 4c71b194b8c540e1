//! From a directory of text to an image for this very gateway.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use gateway_common::place::SEGMENT_GATEWAY;
use gateway_common::table::LAYERS;

use crate::assure::expectation::judge;
use crate::assure::invariant;
use crate::assure::reach::Reach;
use crate::assure::space::Space;
use crate::compile::image::Image;
use crate::compile::{CompileError, compile};
use crate::orders::{self, Clock, Laid, Orders};
use crate::policy::diagnostic::Diagnostic;
use crate::policy::expectation::Expectation;
use crate::policy::model::{Policy, Ranges};
use crate::policy::ranges::normalise;
use crate::policy::render::Report;
use crate::policy::{self, Blob, LoadError, Loaded, Selection, SourceFile};

use super::commit;
use super::last_good::Origin;
use super::repository::Commit;

/// A policy's text, and what it is on this gateway.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The text, and where it came from.
    pub text: Text,
    /// The gateway's own addresses that were counted in. Sorted.
    pub addresses: Vec<IpAddr>,
    /// The tables.
    pub image: Image,
    /// What was laid over the text.
    pub laying: Laying,
}

/// What was laid over a policy's text: see [`orders::Laid`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Laying {
    /// The orders.
    pub orders: Orders,
    /// Tells one laid state from another; empty where nothing was laid.
    pub basis: String,
    /// When it must be laid anew, in nanoseconds on the kernel's clock.
    pub stale: Option<u64>,
    /// Milliseconds since 1970 at which the kernel's clock began, where what is laid depends on it.
    pub beginning: Option<i64>,
    /// Something else is laid: of orders that could not be read.
    pub is_lost: bool,
}

/// A policy's text that has been found without mistakes.
#[derive(Clone, Debug)]
pub struct Text {
    /// Directory that it was read from; absolute.
    pub source: PathBuf,
    /// Commit, where the directory is a work tree of git.
    pub commit: Option<String>,
    /// What that commit says about itself, where it came from a repository.
    pub about: Option<Commit>,
    /// Files that count on this gateway.
    pub files: Vec<SourceFile>,
    /// What it means.
    pub policy: Policy,
    /// Warnings of the check.
    pub warnings: usize,
    /// What its tests expect of it; read with a commit only.
    pub expectations: Vec<Expectation>,
}

/// Why a policy cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Its directory cannot be read.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
    /// It has mistakes.
    #[error("{report}{}", self.brief())]
    Mistakes {
        /// Directory.
        directory: PathBuf,
        /// Each mistake with its line.
        report: String,
        /// How many there are.
        errors: usize,
        /// What has them.
        fault: Fault,
    },
    /// It does not fit.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// What a policy's mistakes are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its text.
    Text,
    /// Invariants that do not hold.
    Invariant,
    /// Tests that fail.
    Test,
}

impl Fault {
    fn words(self, errors: usize) -> String {
        match self {
            Self::Text | Self::Invariant => format!("{} in", count(errors, "mistake")),
            Self::Test => format!("{} of", count(errors, "failed test")),
        }
    }
}

impl PrepareError {
    /// Its kind, in a word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Mistakes { fault: Fault::Text, .. } => "mistakes",
            Self::Mistakes { fault: Fault::Invariant, .. } => "invariant",
            Self::Mistakes { fault: Fault::Test, .. } => "tests",
            Self::Compile(_) => "too-large",
        }
    }

    /// Without the report of each mistake.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Mistakes { directory, errors, fault, .. } => {
                format!("{} the policy {}", fault.words(*errors), directory.display())
            }
            Self::Unreadable(error) => error.to_string(),
            Self::Compile(error) => error.to_string(),
        }
    }
}

/// Mistakes that a report shows; `clinigate check` shows all.
const MISTAKES_SHOWN: usize = 50;

impl Text {
    /// Reads and checks the policy in `directory`.
    pub fn read(directory: &Path, selection: &Selection) -> Result<Self, PrepareError> {
        let source = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        // Asked before the files are read: a change in between then shows as one more commit, not
        // as the text of one commit under the name of the next.
        let commit = commit::of(&source);
        let loaded = policy::load_for(&source, selection)?;
        Self::of(source, commit, loaded, Vec::new())
    }

    /// Checks the policy of a commit, and takes its tests along.
    pub fn of_commit(
        source: PathBuf,
        about: Commit,
        blobs: Vec<Blob>,
        selection: &Selection,
    ) -> Result<Self, PrepareError> {
        let (loaded, expectations) = policy::load_tree(blobs, selection);
        let text = Self::of(source, Some(about.id.clone()), loaded, expectations)?;
        Ok(Self { about: Some(about), ..text })
    }

    fn of(
        source: PathBuf,
        commit: Option<String>,
        loaded: Loaded,
        expectations: Vec<Expectation>,
    ) -> Result<Self, PrepareError> {
        let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        match loaded {
            Loaded { policy: Some(policy), diagnostics, mut sources, files } if errors == 0 => {
                sources.retain(|file| files.binary_search(&file.name).is_ok());
                let warnings = diagnostics.len();
                Ok(Self { source, commit, about: None, files: sources, policy, warnings, expectations })
            }
            loaded => {
                let errors = loaded.diagnostics.into_iter().filter(Diagnostic::is_error);
                Err(mistakes(&source, &loaded.sources, &errors.collect::<Vec<_>>(), Fault::Text))
            }
        }
    }

    /// Compiles it for a gateway that has `addresses`, with what was ordered there.
    pub fn prepare(
        self,
        addresses: Vec<IpAddr>,
        orders: &Orders,
        clock: &Clock,
    ) -> Result<Prepared, PrepareError> {
        let Laid { policy, basis, stale, follows_wall } =
            orders::lay(with_addresses(&self.policy, &addresses), orders, clock);
        let image = compile(&policy)?;
        let beginning = follows_wall.then(|| clock.beginning());
        let laying = Laying { orders: orders.clone(), basis, stale, beginning, is_lost: false };
        Ok(Prepared { text: self, addresses, image, laying })
    }
}

impl Prepared {
    /// Proves the policy's invariants on its tables. Only asked of a policy that is new: the last good
    /// one is better than none, whatever a later version of this program proves about it. Proven is the text, with
    /// every access open that a window or a grant limits, and not what was ordered over it.
    pub fn prove(&self) -> Result<(), PrepareError> {
        let policy = &self.text.policy;
        let found = if self.laying.basis.is_empty() && policy.opened().is_none() {
            invariant::prove_image(policy, &self.image)
        } else {
            invariant::prove(&with_addresses(policy, &self.addresses))?
        };
        let broken: Vec<Diagnostic> = found.into_iter().filter(Diagnostic::is_error).collect();
        self.unless(&broken, Fault::Invariant)
    }

    /// Holds the policy against its tests.
    pub fn test(&self) -> Result<(), PrepareError> {
        let Text { policy, expectations, .. } = &self.text;
        if expectations.is_empty() {
            return Ok(());
        }
        // The text is tested, not what was ordered over it.
        let plain;
        let image = if self.laying.basis.is_empty() {
            &self.image
        } else {
            plain = compile(&with_addresses(policy, &self.addresses))?;
            &plain
        };
        let reach = Reach::new(Space::new(image));
        let verdicts = expectations.iter().map(|expectation| judge(policy, &reach, expectation));
        let failed: Vec<Diagnostic> = verdicts.filter_map(|verdict| verdict.failure).collect();
        self.unless(&failed, Fault::Test)
    }

    fn unless(&self, errors: &[Diagnostic], fault: Fault) -> Result<(), PrepareError> {
        let Text { source, files, .. } = &self.text;
        if errors.is_empty() { Ok(()) } else { Err(mistakes(source, files, errors, fault)) }
    }

    /// Where it came from, for the copy that the next boot may take.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            policy_hash: self.image.manifest.hash.clone(),
            source: self.text.source.clone(),
            commit: self.text.commit.clone(),
        }
    }

    /// Sizes of the tables, by what they hold.
    pub fn tables(&self) -> BTreeMap<String, u64> {
        let image = &self.image;
        let config = &image.config;
        let rows = image.verdicts.len().checked_div(config.services as usize).unwrap_or_default();
        let classes = image.atoms.iter().map(|atom| atom.source as usize + 1).max().unwrap_or_default();
        let sizes: [(&str, usize); 6] = [
            ("atoms", image.atoms.len()),
            ("places", image.places.len()),
            ("source classes", classes),
            ("destination classes", config.destinations as usize),
            ("service classes", config.services as usize),
            ("verdict rows", rows),
        ];
        let layers = (config.layered != 0).then_some(("layers", LAYERS));
        sizes.into_iter().chain(layers).map(|(name, size)| (name.to_owned(), size as u64)).collect()
    }
}

/// A policy on a gateway that has these addresses.
pub fn with_addresses(policy: &Policy, addresses: &[IpAddr]) -> Policy {
    let mut policy = policy.clone();
    add(&mut policy.segments[usize::from(SEGMENT_GATEWAY)].ranges, addresses);
    policy
}

fn mistakes(directory: &Path, files: &[SourceFile], errors: &[Diagnostic], fault: Fault) -> PrepareError {
    let report = Report::new(files, false);
    let shown = errors.iter().take(MISTAKES_SHOWN).map(|diagnostic| report.render(diagnostic) + "\n\n");
    let (directory, report) = (directory.to_owned(), shown.collect());
    PrepareError::Mistakes { directory, report, errors: errors.len(), fault }
}

fn add(ranges: &mut Ranges, addresses: &[IpAddr]) {
    for address in addresses {
        match address {
            IpAddr::V4(v4) => ranges.v4.push((v4.to_bits(), v4.to_bits())),
            IpAddr::V6(v6) => ranges.v6.push((v6.to_bits(), v6.to_bits())),
        }
    }
    ranges.v4 = normalise(std::mem::take(&mut ranges.v4));
    ranges.v6 = normalise(std::mem::take(&mut ranges.v6));
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    use super::super::control::ErrorKind;
    use super::super::service::ChangeError;
    use super::*;

    fn clock() -> Clock {
        Clock { boot: String::new(), unix: 0, kernel: 0 }
    }

    const MINIMAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/minimal");

    #[test]
    fn the_gateways_own_addresses_are_its_segment() {
        let text = Text::read(Path::new(MINIMAL), &Selection::default()).unwrap();
        let addresses: Vec<IpAddr> = vec!["10.10.70.1".parse().unwrap(), "fd00:70::1".parse().unwrap()];
        let prepared = text.prepare(addresses, &Orders::default(), &clock()).unwrap();
        let with = prepared.image.atoms.len();
        let without = Text::read(Path::new(MINIMAL), &Selection::default())
            .unwrap()
            .prepare(Vec::new(), &Orders::default(), &clock())
            .unwrap();
        assert_ne!(prepared.image.v4, without.image.v4);
        assert_eq!(prepared.tables()["atoms"], with as u64);
        assert!(prepared.tables()["verdict rows"] > 0);
    }

    #[test]
    fn a_broken_invariant_is_a_mistake() {
        let directory = tempfile::tempdir().unwrap();
        fs::copy(Path::new(MINIMAL).join("policy.yaml"), directory.path().join("policy.yaml")).unwrap();
        let claim = |services| {
            let line = format!("- {{ name: claim, from: modalities, to: pacs, never: [{services}] }}");
            fs::write(directory.path().join("claim.yaml"), format!("invariants:\n  {line}\n")).unwrap();
            Text::read(directory.path(), &Selection::default())
                .unwrap()
                .prepare(Vec::new(), &Orders::default(), &clock())
                .unwrap()
                .prove()
        };
        assert!(claim("smb").is_ok());
        let error = claim("tcp/11000-11200").unwrap_err().to_string();
        for part in
            ["invariant-broken", "claim.yaml:2:", "-> 10.10.30.1:11112", "`store-studies`", "1 mistake"]
        {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn mistakes_are_shown_at_their_lines() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("a.yaml"),
            "flows:\n  - { name: x, from: [nowhere], to: [wan], services: [ssh] }\n",
        )
        .unwrap();
        let refused = Text::read(directory.path(), &Selection::default()).unwrap_err();
        let error = refused.to_string();
        assert!(error.contains("a.yaml:2:"), "{error}");
        let brief = refused.brief();
        assert!(brief.starts_with("1 mistake in the policy ") && !brief.contains('\n'), "{brief}");
        assert!(error.ends_with(&brief), "{error}");
        assert_eq!(ChangeError::from(refused).kind(), ErrorKind::Policy);
        let missing = Text::read(Path::new("/nonexistent"), &Selection::default()).unwrap_err();
        assert!(matches!(missing, PrepareError::Unreadable(_)), "{missing}");
        assert_eq!(missing.brief(), missing.to_string());
        assert_eq!(ChangeError::from(missing).kind(), ErrorKind::Machine, "no mistake of a policy");
    }
}
