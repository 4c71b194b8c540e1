//! Orders at the gateway: kept, put in force, ended, written into the audit log.

mod enter;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::{error, info, warn};

use enter::{enter, resolve};

use super::super::control::{Change, Clinical, Found, Order, Ordered, Peer, Reply, Standing};
use super::super::history::Cause;
use super::super::{clock, order_book};
use super::error::{ChangeError, chain};
use super::{How, InForce, Service, lock, milliseconds};
use crate::audit;
use crate::dataplane::{self, LiveConnection};
use crate::orders::{Clock, Orders, Target};
use crate::policy::model::{Level, Policy, ServiceClass};

/// Clinical connections that are shown of a device.
const CLINICAL_SHOWN: usize = 5;
/// How long orders that could not be laid anew are left alone.
const PAUSE: Duration = Duration::from_secs(10);
/// Who ends what ends by itself.
const ITSELF: &str = "clinigate";

impl Service {
    /// Carries out an order, or tells what stands.
    pub(in crate::daemon) fn order(&self, peer: &Peer, order: &Order) -> Result<Reply, ChangeError> {
        match order {
            Order::List {} => Ok(Reply::Orders { orders: self.standing() }),
            Order::Look { target } => self.find(target).map(|found| Reply::Found { found: Box::new(found) }),
            order => self.carry_out(&peer.name(), order).map(|ordered| Reply::Ordered { ordered }),
        }
    }

    /// A peer asked for what it has no right to.
    pub(in crate::daemon) fn forbidden(&self, peer: &Peer, action: &'static str) {
        self.metrics.orders.forbidden.inc();
        let noted = lock(&self.strangers).note(peer.uid, action, Instant::now());
        if let Some(passed_over) = noted {
            let detail = json!({ "pid": peer.pid, "passed_over": passed_over });
            self.audit(&peer.name(), action, "forbidden", detail);
        }
    }

    /// A peer asks for something that changes what is in force.
    pub(in crate::daemon) fn asked(&self, peer: &Peer, action: &str) {
        self.audit(&peer.name(), action, "asked", json!({ "pid": peer.pid }));
    }

    /// What stands.
    pub(in crate::daemon) fn standing(&self) -> Vec<Standing> {
        order_book::standing(&lock(&self.orders), &clock::now())
    }

    fn carry_out(&self, by: &str, order: &Order) -> Result<Ordered, ChangeError> {
        let _turn = lock(&self.changing);
        let begun = Instant::now();
        let clock = clock::now();
        let detail = serde_json::to_value(order).unwrap_or_default();
        let before = lock(&self.orders).clone();
        let mut orders = before.clone();
        let asked = self.policy_in_force().and_then(|policy| enter(&mut orders, order, by, &policy, &clock));
        let id = match asked {
            Ok(id) => id,
            Err(refused) => {
                self.audit(by, order.name(), "refused", with(detail, "why", chain(&refused).into()));
                return Err(refused);
            }
        };
        let mut warnings = Vec::new();
        let state = &self.settings.dataplane.state_dir;
        // What opens something must leave a trace and an end that outlives a crash; what isolates must not wait for a disk.
        let opens = matches!(
            order,
            Order::GrantOpen { .. } | Order::BreakGlass { .. } | Order::QuarantineRelease { .. }
        );
        if let Err(failed) = self.try_note(by, order.name(), "asked", detail.clone()) {
            if opens {
                return Err(ChangeError::Order(format!(
                    "the audit log cannot be written, and nothing is opened without it: {failed}"
                )));
            }
            warnings.push(format!("the audit log does not have it: {failed}"));
        }
        if let Err(failed) = order_book::write(state, &orders) {
            if opens {
                let why = format!("cannot keep it in {}: {failed}", state.display());
                self.audit(by, order.name(), "failed", with(detail, "why", why.clone().into()));
                return Err(ChangeError::Order(why));
            }
            warnings.push(format!(
                "it will not outlive a restart of the service: cannot write {}: {failed}",
                state.display()
            ));
        }
        *lock(&self.orders) = orders;
        match self.lay_anew() {
            Ok(generation) => {
                let took_ms = milliseconds(begun.elapsed());
                let detail = with(with(detail, "id", id.into()), "generation", generation.into());
                self.audit(by, order.name(), "done", detail);
                warn!(by, action = order.name(), id, generation, took_ms, "an order came into force");
                self.show_orders(&clock);
                Ok(Ordered { id, generation, took_ms, warnings })
            }
            Err(refused) => {
                if let Err(failed) = order_book::write(state, &before) {
                    error!(error = %failed, "cannot take back an order that failed");
                }
                *lock(&self.orders) = before;
                self.audit(by, order.name(), "failed", with(detail, "why", chain(&refused).into()));
                Err(refused)
            }
        }
    }

    /// The policy in force, as its text says.
    fn policy_in_force(&self) -> Result<Policy, ChangeError> {
        let policy = lock(&self.memory).in_force.as_ref().map(|it| InForce::policy(it).as_ref().clone());
        policy.ok_or_else(|| {
            ChangeError::Order(
                "the text of the policy in force is not at hand: apply it again first".to_owned(),
            )
        })
    }

    /// Compiles the policy in force with the orders as they are now.
    fn lay_anew(&self) -> Result<u32, ChangeError> {
        let text = lock(&self.memory).in_force.as_ref().map(|it| it.text.clone());
        let text = text.ok_or_else(|| ChangeError::Order("no policy is in force".to_owned()))?;
        let prepared = self.prepare(text, dataplane::local_addresses()?)?;
        Ok(self.put_prepared(prepared, Instant::now(), How::of(Cause::Orders))?.generation)
    }

    /// Takes out what is over, finds what moved, and lays windows anew that come up or moved with the wall clock.
    pub(super) fn follow_orders(&self) -> Result<(), String> {
        let clock = clock::now();
        let mut orders = lock(&self.orders).clone();
        let over = orders.expire(&clock);
        let trouble = self.look_for_addresses(&mut orders);
        let is_known = *lock(&self.orders) == orders;
        let is_laid = lock(&self.memory)
            .in_force
            .as_ref()
            .map_or(is_known, |it| it.laying.orders == orders && !it.is_stale(&clock));
        // Somebody has seen to what could not be read, and what was laid of it goes.
        let is_over = lock(&self.memory).in_force.as_ref().is_some_and(|it| it.laying.is_lost);
        let is_laid = is_laid && (!is_over || self.are_orders_lost());
        if over.is_empty() && is_laid {
            return trouble;
        }
        if let Err(failed) = order_book::write(&self.settings.dataplane.state_dir, &orders) {
            // What is over is over in the kernel, too.
            error!(error = %failed, "cannot keep the orders as they are now");
        }
        *lock(&self.orders) = orders;
        for (what, id) in &over {
            self.audit(ITSELF, what, "ended", json!({ "id": id }));
            info!(what, id, "an order ended by itself");
        }
        self.show_orders(&clock);
        {
            let memory = lock(&self.memory);
            match &memory.orders_pause {
                _ if memory.in_force.is_none() => return trouble,
                Some((until, why)) if Instant::now() < *until => return Err(why.clone()),
                _ => {}
            }
        }
        let laid = self.lay_anew();
        let failed = laid.err().map(|error| format!("cannot lay orders and windows anew: {}", chain(&error)));
        lock(&self.memory).orders_pause = failed.clone().map(|why| (Instant::now() + PAUSE, why));
        failed.map_or(trouble, Err)
    }

    /// Isolates the addresses that the gateway sees now of what is in quarantine by its Ethernet address.
    fn look_for_addresses(&self, orders: &mut Orders) -> Result<(), String> {
        let (mut beyond, mut trouble) = (Some(0), Ok(()));
        for quarantine in &mut orders.quarantines {
            let Target::Mac(mac) = quarantine.target.clone() else { continue };
            match dataplane::neighbours_with(&mac) {
                Ok(found) => {
                    let (new, rest) = quarantine.learn(&found);
                    for address in new {
                        warn!(%mac, %address, "what is in quarantine has another address");
                    }
                    if rest > 0 {
                        beyond = beyond.map(|beyond| beyond + rest);
                        trouble = Err(format!(
                            "{mac} takes more addresses than a quarantine isolates: unplug it, or isolate its port"
                        ));
                    }
                }
                Err(error) => {
                    trouble = Err(format!("cannot ask the kernel for its neighbours: {error}"));
                    beyond = None;
                }
            }
        }
        // What is not known now is as it was.
        if let Some(beyond) = beyond {
            self.metrics.orders.beyond.set(i64::try_from(beyond).unwrap_or(i64::MAX));
        }
        trouble
    }

    /// Notes in the audit log that a policy came into force, or was refused.
    pub(super) fn audit_change(&self, source: &Path, result: &Result<Change, ChangeError>) {
        let source = source.display().to_string();
        match result {
            Ok(change) if change.unchanged => {}
            Ok(Change { generation, policy_hash, .. }) => {
                let detail = json!({ "source": source, "hash": policy_hash, "generation": generation });
                self.audit(ITSELF, "policy", "done", detail);
            }
            Err(error) => {
                self.audit(ITSELF, "policy", "refused", json!({ "source": source, "why": error.brief() }));
            }
        }
    }

    /// Adds an entry to the audit log.
    pub(super) fn audit(&self, by: &str, action: &str, outcome: &str, detail: Value) {
        if let Err(failed) = self.try_note(by, action, outcome, detail) {
            error!(action, outcome, "the audit log does not have an entry: {failed}");
        }
    }

    fn try_note(&self, by: &str, action: &str, outcome: &str, detail: Value) -> Result<(), String> {
        let mut log = lock(&self.audit_log);
        let opened = match log.take_if(|log| !log.is_doubtful()) {
            Some(log) => Ok(log),
            None => audit::Log::open(&self.settings.dataplane.state_dir),
        };
        let added = opened.and_then(|opened| {
            let opened = log.insert(opened);
            opened.add(super::unix_now(), by, action, outcome, detail).cloned()
        });
        match added {
            Ok(head) => {
                info!(number = head.number, hash = head.hash, action, outcome, "audited");
                Ok(())
            }
            Err(error) => {
                self.metrics.orders.audit_failures.inc();
                Err(chain(&error))
            }
        }
    }

    /// Shows the orders on the metrics.
    pub(super) fn show_orders(&self, clock: &Clock) {
        self.metrics.orders.show(&lock(&self.orders), clock);
    }

    /// What is known of a device or an address.
    fn find(&self, word: &str) -> Result<Found, ChangeError> {
        let policy = self.policy_in_force()?;
        let target = Target::read(word);
        let (addresses, device) = resolve(&policy, &target).map_err(ChangeError::Order)?;
        let live = self.with_dataplane(|dataplane| dataplane.live_connections())??;
        let is_its = |connection: &&LiveConnection| {
            addresses.contains(&connection.initiator().0) || addresses.contains(&connection.responder().0)
        };
        let running: Vec<&LiveConnection> = live.iter().filter(is_its).collect();
        let mut clinical: Vec<Clinical> = running.iter().filter_map(|it| clinical(&policy, it)).collect();
        clinical.sort_by_key(|it| it.idle_s);
        clinical.truncate(CLINICAL_SHOWN);
        let mut segments: Vec<String> =
            addresses.iter().map(|&it| policy.segment(policy.segment_of(it)).name.clone()).collect();
        segments.dedup();
        let names_it = |set: &crate::policy::model::AddressSet| {
            addresses.iter().any(|&it| set.contains(it, policy.segment_of(it)))
        };
        let kept = policy.kept.iter().filter(|rule| names_it(&rule.from) || names_it(&rule.to));
        Ok(Found {
            target: word.to_owned(),
            device: device.map(|device| device.name.clone()),
            segments,
            labels: device.map(|device| device.labels.clone()).unwrap_or_default(),
            safety: device.and_then(|device| device.risk).map(|risk| level(risk.safety).to_owned()),
            connections: running.len() as u64,
            clinical,
            kept: kept.map(|rule| rule.name.clone()).collect(),
            addresses,
        })
    }
}

/// A connection, where what allows it is clinical.
fn clinical(policy: &Policy, connection: &LiveConnection) -> Option<Clinical> {
    let rule = policy.rules.get(connection.entry.rule as usize)?;
    let is_clinical = |&service: &usize| policy.services[service].class == ServiceClass::Clinical;
    if !rule.services.iter().any(is_clinical) {
        return None;
    }
    let name = |(address, port): (IpAddr, u16)| {
        let device = policy.devices.iter().find(|it| it.addresses.contains(&address));
        device.map_or_else(
            || format!("{address} port {port}"),
            |it| format!("{} ({address}) port {port}", it.name),
        )
    };
    let lasts =
        policy.settings.timeouts.get(usize::from(connection.entry.state)).copied().unwrap_or_default();
    Some(Clinical {
        from: name(connection.initiator()),
        to: name(connection.responder()),
        rule: rule.name.clone(),
        idle_s: u64::from(lasts).saturating_sub(connection.remaining / 1_000_000_000),
    })
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Low => "low",
        Level::Medium => "medium",
        Level::High => "high",
    }
}

fn with(mut detail: Value, key: &str, value: Value) -> Value {
    if let Some(map) = detail.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
    detail
}
