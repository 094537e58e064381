//! Where the memory budget comes from: the operator, or a share of what the machine has.

use std::fmt;

use super::limits::MEMORY_AUTO_PERCENT;

/// Because of what a number of bytes is as much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MemoryOrigin {
    /// The operator said so.
    #[default]
    Given,
    /// The machine has as much, or a share of it.
    Machine,
    /// A control group is limited to as much, or a share of it.
    ControlGroup,
}

/// Memory, and where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MachineMemory {
    /// How much; 0 where nobody knows.
    pub bytes: u64,
    /// Because of what.
    pub origin: MemoryOrigin,
}

impl MachineMemory {
    /// What `--memory auto` takes of it, in whole MiB; 0 where nobody knows how much there is.
    pub fn share(self) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(MEMORY_AUTO_PERCENT) / 100;
        u64::try_from(bytes >> 20 << 20).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for MemoryOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("as configured"),
            Self::Machine => write!(f, "auto: {MEMORY_AUTO_PERCENT}% of the machine's memory"),
            Self::ControlGroup => write!(f, "auto: {MEMORY_AUTO_PERCENT}% of the control group's limit"),
        }
    }
}
