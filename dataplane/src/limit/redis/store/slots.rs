//! Which slot of a cluster a key is in, and who serves it, as `CLUSTER SLOTS` says.

use super::target::Address;

/// The slots of every cluster.
pub(super) const SLOTS: usize = 16_384;

const TABLE: [u16; 256] = table();

/// The slot of a key: of what stands between its first braces, else of all of it.
pub(super) fn slot(key: &str) -> u16 {
    let crc = tag(key).bytes().fold(0_u16, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]);
    crc % SLOTS as u16
}

fn tag(key: &str) -> &str {
    let Some((_, rest)) = key.split_once('{') else { return key };
    match rest.split_once('}') {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    }
}

/// CRC-16/XMODEM, which the cluster specification prescribes.
const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// Consecutive slots of one master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) master: Address,
}

/// What one node knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chart {
    /// Rises with every change of who serves what: of two charts the one of the later epoch is right.
    pub(super) epoch: u64,
    pub(super) ranges: Vec<Range>,
}

impl Chart {
    /// Every master, once.
    pub(super) fn masters(&self) -> Vec<Address> {
        let mut masters: Vec<Address> = Vec::new();
        for range in &self.ranges {
            if !masters.contains(&range.master) {
                masters.push(range.master.clone());
            }
        }
        masters
    }

    /// How many slots nobody serves.
    pub(super) fn unserved(&self) -> usize {
        let served: usize = self.ranges.iter().map(|range| usize::from(range.last - range.first) + 1).sum();
        SLOTS.saturating_sub(served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot(""), 0);
    }

    #[test]
    fn only_the_first_braces_count_unless_they_are_empty() {
        assert_eq!(slot("relay:{foo}:key/{bar}"), slot("foo"));
        assert_eq!(slot("{foo"), slot("{foo"));
        assert_ne!(slot("{foo"), slot("foo"));
        assert_ne!(slot("x{}foo"), slot("foo"));
        assert_eq!(tag("x{}{foo}"), "x{}{foo}");
    }

    #[test]
    fn slots_that_nobody_serves_are_counted() {
        let range = |first, last| Range { first, last, master: Address::new("a", 1) };
        let chart = Chart { epoch: 1, ranges: vec![range(0, 99), range(200, 16_383)] };
        assert_eq!((chart.unserved(), chart.masters().len()), (100, 1));
    }
}
