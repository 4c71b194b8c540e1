//! The repository that is followed, and its newest commit.

use super::{ago, line, on, short};
use crate::daemon::status::{CommitState, RepositoryStatus};

pub(super) fn render(text: &mut String, repository: &RepositoryStatus, now: u64) {
    let RepositoryStatus { url, branch, path, .. } = repository;
    let within = if path.is_empty() { String::new() } else { format!(", directory {path}") };
    line(text, "Repository", &format!("{url}, branch {branch}{within}"));
    let labels: Vec<String> =
        repository.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let signed =
        if repository.requires_signature { "signed commits only" } else { "signatures are not asked for" };
    let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
    line(text, "", &format!("{signed}; labels of this gateway: {labels}"));
    let asked = repository.checked_at.map_or_else(|| "not yet".to_owned(), |at| ago(at, now));
    let answer = match (&repository.fetch_error, repository.fetched_at) {
        (None, _) => String::new(),
        (Some(_), Some(at)) => format!(", without an answer since {}", on(at, now)),
        (Some(_), None) => ", and never answered".to_owned(),
    };
    line(text, "", &format!("asked every {} s, last {asked}{answer}", repository.interval_s));
    let Some(head) = &repository.head else { return };
    let commit = &head.commit;
    line(text, "Commit", &format!("{}, {}: {}", short(&commit.id), commit.author, commit.subject));
    if let Some(signer) = &commit.signer {
        line(text, "", &format!("signed by {signer}"));
    }
    match head.state {
        CommitState::InForce => line(text, "", &format!("in force, found so {}", on(head.since, now))),
        state => {
            line(text, "", &format!("NOT in force, but {} since {}:", state.name(), on(head.since, now)));
            for words in head.message.iter().flat_map(|message| message.lines()) {
                line(text, "", words);
            }
        }
    }
    if let Some(accepted) = repository.accepted.as_ref().filter(|accepted| **accepted != commit.id) {
        line(text, "", &format!("the last one that came into force is {}", short(accepted)));
    }
}
