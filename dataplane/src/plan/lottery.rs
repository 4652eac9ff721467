//! Order by weighted chance that is the same everywhere for the same number: rendezvous hashing. With the number of a
//! conversation it is stickiness, with a random one it is a draw.

/// The score of a name in the draw `number`: the highest wins. Each name wins in proportion to its weight, and when it
/// leaves, the order of the others stays.
pub(super) fn score(number: u64, name: &str, weight: u32) -> f64 {
    // The first 53 bits make a number between 0 and 1, ends excluded.
    let chance = ((hash(number, name) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight.max(1)) / chance.ln()
}

/// FNV-1a over the name, mixed with the number by the finalizer of SplitMix64: equal in every process and version.
pub(super) fn hash(number: u64, name: &str) -> u64 {
    let folded = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    let mut mixed = folded ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner<'a>(number: u64, names: &[(&'a str, u32)]) -> &'a str {
        let of = |&(name, weight): &(&str, u32)| score(number, name, weight);
        names.iter().max_by(|a, b| of(a).total_cmp(&of(b))).unwrap().0
    }

    #[test]
    fn each_name_wins_in_proportion_to_its_weight() {
        let names = [("a", 100), ("b", 300), ("c", 600)];
        for (name, weight) in names {
            let wins = (0..20_000).filter(|&number| winner(number, &names) == name).count();
            let expected = weight as usize * 20;
            assert!(wins.abs_diff(expected) < 400, "{name}: {wins} of {expected}");
        }
    }

    #[test]
    fn a_name_that_leaves_moves_only_those_that_it_had() {
        let all = [("a", 1), ("b", 1), ("c", 1)];
        for number in 0..1_000 {
            let before = winner(number, &all);
            let after = winner(number, &all[..2]);
            assert!(before == "c" || before == after);
        }
    }
}
