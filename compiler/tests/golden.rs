//! Golden pairs: `cases/<rule>.in.yaml`, what a user would write, and `cases/<rule>.out.yaml`, what it means. The table is
//! shown without what defaults say, unless the first line of the input is `# show defaults`. `RELAY_BLESS=1` writes the
//! outputs anew; read every line of the difference as if you had typed it.

#[path = "support/render.rs"]
mod render;
mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn rules(ending: &str) -> BTreeSet<String> {
    let names = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some(name.strip_suffix(ending)?.to_owned())).collect()
}

fn meaning(rule: &str) -> String {
    let input = fs::read_to_string(cases().join(format!("{rule}.in.yaml"))).unwrap();
    let compilation = compiler::compile(&support::resources(&input));
    render::render(&compilation, input.starts_with("# show defaults"))
}

#[test]
fn every_case_means_what_its_golden_file_says() {
    let bless = std::env::var_os("RELAY_BLESS").is_some();
    let mut wrong = Vec::new();
    for rule in rules(".in.yaml") {
        let path = cases().join(format!("{rule}.out.yaml"));
        let (meaning, wanted) = (meaning(&rule), fs::read_to_string(&path).unwrap_or_default());
        if bless {
            fs::write(&path, meaning).unwrap();
        } else if meaning != wanted {
            wrong.push(format!("{rule}\n{}", difference(&wanted, &meaning)));
        }
    }
    assert!(wrong.is_empty(), "\n{}\nRELAY_BLESS=1 writes the golden files anew", wrong.join("\n"));
}

#[test]
fn every_golden_file_has_its_input() {
    let orphans: Vec<_> = rules(".out.yaml").difference(&rules(".in.yaml")).cloned().collect();
    assert_eq!(orphans, Vec::<String>::new());
}

/// The lines that are only in one of two texts, in place: the longest common subsequence is kept.
fn difference(wanted: &str, got: &str) -> String {
    let (wanted, got): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), got.lines().collect());
    let mut common = vec![vec![0_usize; got.len() + 1]; wanted.len() + 1];
    for w in (0..wanted.len()).rev() {
        for g in (0..got.len()).rev() {
            common[w][g] = match wanted[w] == got[g] {
                true => common[w + 1][g + 1] + 1,
                false => common[w + 1][g].max(common[w][g + 1]),
            };
        }
    }
    let (mut w, mut g, mut lines) = (0, 0, Vec::new());
    while w < wanted.len() || g < got.len() {
        if w < wanted.len() && g < got.len() && wanted[w] == got[g] {
            (w, g) = (w + 1, g + 1);
        } else if g == got.len() || (w < wanted.len() && common[w + 1][g] >= common[w][g + 1]) {
            lines.push(format!("- {}", wanted[w]));
            w += 1;
        } else {
            lines.push(format!("+ {}", got[g]));
            g += 1;
        }
    }
    lines.join("\n")
}
