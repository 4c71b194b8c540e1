//! What was ordered at the gateway, on the metrics. Labels are segments and vendors of the policy; no device is one.

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::orders::{Clock, Orders};

/// Gauges of orders, and a counter of what could not be written into the audit log.
pub struct OrderMetrics {
    quarantined: IntGauge,
    /// Addresses of what is in quarantine for which there is no room.
    pub beyond: IntGauge,
    grants: IntGauge,
    opened: IntGaugeVec,
    open: IntGaugeVec,
    unreviewed: IntGauge,
    /// Entries that the audit log does not have.
    pub audit_failures: IntCounter,
    /// Requests of those who have no right to them.
    pub forbidden: IntCounter,
}

impl OrderMetrics {
    /// Registers them.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by = |name: &str, help: &str, label| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let metrics = Self {
            quarantined: IntGauge::new("clinigate_quarantined", "Devices and addresses in quarantine.")?,
            beyond: IntGauge::new(
                "clinigate_quarantine_addresses_beyond",
                "Addresses of devices in quarantine that are not isolated, because they have too many.",
            )?,
            grants: IntGauge::new("clinigate_grants_open", "Vendor accesses that somebody has opened.")?,
            opened: by(
                "clinigate_grant_opened_timestamp_seconds",
                "When the grant of a vendor that is open for longest was opened.",
                "vendor",
            )?,
            open: by(
                "clinigate_break_glass_open",
                "1 for each segment whose glass is broken: what the policy forbids passes and is reported.",
                "segment",
            )?,
            unreviewed: IntGauge::new(
                "clinigate_break_glass_unreviewed",
                "Uses of break-glass that nobody has reviewed, open ones included.",
            )?,
            audit_failures: IntCounter::new(
                "clinigate_audit_failures_total",
                "Entries that could not be written into the audit log.",
            )?,
            forbidden: IntCounter::new(
                "clinigate_control_forbidden_total",
                "Requests on the control socket of users who have no right to them.",
            )?,
        };
        registry.register(Box::new(metrics.quarantined.clone()))?;
        registry.register(Box::new(metrics.beyond.clone()))?;
        registry.register(Box::new(metrics.grants.clone()))?;
        registry.register(Box::new(metrics.opened.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        registry.register(Box::new(metrics.unreviewed.clone()))?;
        registry.register(Box::new(metrics.audit_failures.clone()))?;
        registry.register(Box::new(metrics.forbidden.clone()))?;
        Ok(metrics)
    }

    /// Shows these orders from now on.
    pub fn show(&self, orders: &Orders, clock: &Clock) {
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        self.quarantined.set(count(orders.quarantines.iter().filter(|it| !it.term.is_over(clock)).count()));
        let grants: Vec<_> = orders.grants.iter().filter(|it| !it.term.is_over(clock)).collect();
        self.grants.set(count(grants.len()));
        self.opened.reset();
        // The oldest of a vendor stands first, and is written last.
        for grant in grants.into_iter().rev() {
            let at = i64::try_from(grant.term.begun / 1000).unwrap_or(i64::MAX);
            self.opened.with_label_values(&[&grant.vendor]).set(at);
        }
        self.open.reset();
        self.unreviewed.set(count(orders.break_glass.len()));
        for broken in &orders.break_glass {
            let open = self.open.with_label_values(&[&broken.segment]);
            open.set(open.get().max(i64::from(broken.is_open(clock))));
        }
    }
}
