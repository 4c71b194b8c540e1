//! What this kernel can, asked in one place: the loader chooses by it, and `clinigate doctor` shows it.

use std::path::Path;

use aya::maps::MapType;
use aya::programs::{ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use nix::sys::utsname::uname;
use serde::Serialize;

use super::error::DataplaneError;

/// What follows where a feature is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// Nothing can be enforced.
    Essential,
    /// Something else is used, which is worse.
    Optional,
}

/// One thing that a kernel has or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// Whether it can be done without.
    pub need: Need,
    /// What it is for, and which kernels have it.
    pub needs: &'static str,
    /// What follows where it is missing.
    pub without: &'static str,
}

/// How the program at the exit of an interface is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By a link (Linux 6.6 and later).
    Tcx,
    /// By a classifier of the `clsact` queueing discipline.
    Clsact,
}

impl Exit {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// What this kernel can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    /// `uname -r`.
    pub release: String,
    /// All that is asked for.
    pub list: Vec<Feature>,
}

const BTF: &str = "BTF";
const TCX: &str = "tcx";

impl Features {
    /// Asks the kernel. Without the capabilities for it everything seems to be missing: look at them first.
    pub fn probe() -> Self {
        let helper = |kind, helper| is_helper_supported(kind, helper).unwrap_or(false);
        let xdp = |wanted| helper(ProgramType::Xdp, wanted);
        let essential = |name, present, needs| Feature {
            name,
            present,
            need: Need::Essential,
            needs,
            without: "nothing can be enforced",
        };
        let list = vec![
            essential(
                BTF,
                Path::new("/sys/kernel/btf/vmlinux").exists(),
                "build it with CONFIG_DEBUG_INFO_BTF=y, or mount /sys",
            ),
            essential(
                "XDP on frames in several buffers",
                // The helper came with it.
                xdp(BpfHelper::BPF_FUNC_xdp_get_buff_len),
                "Linux 5.18 or later",
            ),
            essential(
                "coarse clock for programs",
                xdp(BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
                "Linux 5.11 or later",
            ),
            essential(
                "ring buffer",
                is_map_supported(MapType::RingBuf).unwrap_or(false),
                "Linux 5.8 or later",
            ),
            essential(
                "classifiers",
                is_program_supported(ProgramType::SchedClassifier).unwrap_or(false),
                "build it with CONFIG_NET_SCHED=y and CONFIG_BPF_SYSCALL=y",
            ),
            essential(
                "routes and neighbours for programs",
                xdp(BpfHelper::BPF_FUNC_fib_lookup),
                "Linux 4.18 or later",
            ),
            Feature {
                name: TCX,
                present: SchedClassifier::query_tcx("lo", TcAttachType::Egress).is_ok(),
                need: Need::Optional,
                needs: "Linux 6.6 or later with CONFIG_NET_XGRESS=y",
                without: "programs at the exit are attached by clsact, which takes sch_ingress and cls_bpf; others \
                          can take them off with `tc`, and a look every few seconds puts them back",
            },
        ];
        let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
        Self { release, list }
    }

    /// Fails where something essential is missing.
    pub fn require(&self) -> Result<(), DataplaneError> {
        let missing = self.list.iter().find(|feature| !feature.present && feature.need == Need::Essential);
        missing.map_or(Ok(()), |Feature { name, needs, .. }| {
            Err(DataplaneError::Kernel { feature: name, needs, release: self.release.clone() })
        })
    }

    /// How programs are attached at the exit.
    pub fn exit(&self) -> Exit {
        let tcx = self.list.iter().any(|feature| feature.name == TCX && feature.present);
        if tcx { Exit::Tcx } else { Exit::Clsact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(btf: bool, tcx: bool) -> Features {
        let feature = |name, present, need| Feature { name, present, need, needs: "this", without: "that" };
        let list = vec![feature(BTF, btf, Need::Essential), feature(TCX, tcx, Need::Optional)];
        Features { release: "6.1.0".to_owned(), list }
    }

    #[test]
    fn what_is_essential_is_refused_and_what_is_optional_replaced() {
        assert!(features(true, true).require().is_ok());
        assert!(features(true, false).require().is_ok());
        let refusal = features(false, true).require().map_err(|error| error.to_string());
        assert_eq!(refusal, Err("this kernel (6.1.0) has no BTF: this".to_owned()));
        assert_eq!(features(true, true).exit(), Exit::Tcx);
        assert_eq!(features(true, false).exit(), Exit::Clsact);
    }
}
