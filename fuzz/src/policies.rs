//! The policies of this project: what frames and questions are judged by, and seeds of policy text.

use std::sync::LazyLock;

use clinigate::compile::compile;
use clinigate::compile::image::Image;
use clinigate::policy::model::Policy;
use clinigate::policy::{SourceFile, resolve};

/// A policy, resolved and compiled.
pub struct Fixed {
    /// Its files.
    pub sources: Vec<SourceFile>,
    /// Resolved.
    pub policy: Policy,
    /// Compiled.
    pub image: Image,
}

macro_rules! files {
    ($directory:literal: $($name:literal)*) => {
        [$(($name, include_str!(concat!("../../", $directory, "/", $name)))),*]
    };
}

/// The reference hospital, the smallest useful policy, vendors, and the packet tables' ward.
pub static ALL: LazyLock<[Fixed; 4]> = LazyLock::new(|| {
    [
        Fixed::new(&files!("tests/tests/packets": "ward.yaml")),
        Fixed::new(&files!("policies/minimal": "policy.yaml")),
        Fixed::new(&files!("policies/hospital":
            "deny.yaml" "devices.yaml" "flows.yaml" "interfaces.yaml" "invariants.yaml" "segments.yaml"
            "services.yaml" "vendors.yaml"
        )),
        Fixed::new(&files!("policies/vendors": "policy.yaml")),
    ]
});

/// Tests of policies: expectations.
pub const TESTS: [&str; 2] = [
    include_str!("../../policies/minimal/tests/expectations.yaml"),
    include_str!("../../policies/hospital/tests/never.yaml"),
];

impl Fixed {
    fn new(files: &[(&str, &str)]) -> Self {
        let sources: Vec<_> = files.iter().map(|(name, text)| SourceFile::new(name, *text)).collect();
        let resolved = resolve(sources.clone());
        let policy = resolved.policy.unwrap_or_else(|| panic!("{:?}", resolved.diagnostics));
        let image = compile(&policy).expect("the project's policies fit the tables");
        Self { sources, policy, image }
    }
}
