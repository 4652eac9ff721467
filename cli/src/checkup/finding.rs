//! What a check of an installation found, and how it is told: a line each, and below it what helps.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::outcome::count;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// As it should be.
    Fine,
    /// Not known: who asks may not see it, or there is nothing to see.
    Unseen,
    /// Not as it should be, though requests are served as the manifests say.
    Warning,
    /// Wrong.
    Failed,
}

/// One fact, and what helps where it is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) mark: Mark,
    /// For programs, such as `lease-held`: it stays the same whatever was found.
    pub(super) check: &'static str,
    said: String,
    /// What helps: commands as a shell takes them, and comments to it.
    remedies: Vec<String>,
    /// Where more is said.
    see: Option<&'static str>,
}

/// Findings about one thing.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) findings: Vec<Finding>,
}

impl Mark {
    fn sign(self) -> &'static str {
        match self {
            Self::Fine => "√",
            Self::Unseen | Self::Warning => "‼",
            Self::Failed => "×",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Unseen => "unseen",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl Finding {
    pub(super) fn fine(check: &'static str, said: impl Into<String>) -> Self {
        Self::new(Mark::Fine, check, said)
    }

    pub(super) fn unseen(check: &'static str, said: impl Into<String>) -> Self {
        Self::new(Mark::Unseen, check, said)
    }

    pub(super) fn warning(check: &'static str, said: impl Into<String>) -> Self {
        Self::new(Mark::Warning, check, said)
    }

    pub(super) fn failed(check: &'static str, said: impl Into<String>) -> Self {
        Self::new(Mark::Failed, check, said)
    }

    fn new(mark: Mark, check: &'static str, said: impl Into<String>) -> Self {
        Self { mark, check, said: said.into(), remedies: Vec::new(), see: None }
    }

    /// With a command that helps.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }

    /// With a sentence where no command helps: a comment to a shell.
    pub(super) fn hint(self, hint: impl std::fmt::Display) -> Self {
        self.remedy(format!("# {hint}"))
    }

    /// With the page that says more, where there is more to say.
    pub(super) fn see(mut self, page: &'static str) -> Self {
        self.see = (self.mark != Mark::Fine).then_some(page);
        self
    }

    /// The sentence.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.said
    }

    #[cfg(test)]
    pub(super) fn remedies(&self) -> &[String] {
        &self.remedies
    }

    fn lines(&self) -> String {
        let mut text = format!("{} {}\n", self.mark.sign(), self.said);
        for remedy in &self.remedies {
            let _ = writeln!(text, "    {remedy}");
        }
        if let Some(see) = self.see {
            let _ = writeln!(text, "    see {see}");
        }
        text
    }

    fn json(&self) -> Value {
        let Self { mark, check, said, remedies, see } = self;
        let mut value = json!({"check": check, "result": mark.word(), "message": said});
        if !remedies.is_empty() {
            value["remedies"] = json!(remedies);
        }
        if let Some(see) = see {
            value["see"] = json!(see);
        }
        value
    }
}

/// How many findings have this mark.
pub(super) fn number(sections: &[Section], mark: Mark) -> usize {
    sections.iter().flat_map(|section| &section.findings).filter(|finding| finding.mark == mark).count()
}

/// All that was found, for a person.
pub(super) fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections.iter().filter(|section| !section.findings.is_empty()) {
        let findings: String = section.findings.iter().map(Finding::lines).collect();
        let _ = writeln!(text, "{}\n{findings}", section.name);
    }
    text + &summary(sections)
}

fn summary(sections: &[Section]) -> String {
    let of = |mark| number(sections, mark);
    let fine = count(of(Mark::Fine), "check");
    let mut parts = vec![match of(Mark::Failed) {
        0 => format!("Nothing is wrong: {fine} fine"),
        failed => format!("{failed} failed, {fine} fine"),
    }];
    if of(Mark::Warning) > 0 {
        parts.push(count(of(Mark::Warning), "warning"));
    }
    if of(Mark::Unseen) > 0 {
        parts.push(format!("{} not seen", of(Mark::Unseen)));
    }
    parts.join(", ") + "\n"
}

/// All that was found, for a program.
pub(super) fn document(namespace: &str, sections: &[Section]) -> Value {
    let of = |mark| number(sections, mark);
    let sections = sections.iter().filter(|section| !section.findings.is_empty()).map(|section| {
        let findings: Vec<Value> = section.findings.iter().map(Finding::json).collect();
        json!({"name": section.name, "findings": findings})
    });
    let sections: Vec<Value> = sections.collect();
    json!({
        "namespace": namespace, "ok": of(Mark::Failed) == 0, "failed": of(Mark::Failed), "warnings": of(Mark::Warning),
        "unseen": of(Mark::Unseen), "sections": sections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_followed_by_what_helps() {
        let lease = Finding::failed("lease-held", "nobody leads").remedy("kubectl logs x").see("docs/x.md#y");
        let sections = [
            Section { name: "Kubernetes", findings: vec![Finding::fine("api-server", "it answers")] },
            Section { name: "Nothing", findings: Vec::new() },
            Section { name: "Operator", findings: vec![lease, Finding::unseen("pods", "may not be seen")] },
        ];
        let expected = "Kubernetes\n√ it answers\n\nOperator\n× nobody leads\n    kubectl logs x\n    see docs/x.md#y\n\
                        ‼ may not be seen\n\n1 failed, 1 check fine, 1 not seen\n";
        assert_eq!(text(&sections), expected);
        let document = document("relay-system", &sections);
        assert_eq!(document["ok"], false);
        let told = json!({"check": "lease-held", "result": "failed", "message": "nobody leads",
                          "remedies": ["kubectl logs x"], "see": "docs/x.md#y"});
        assert_eq!(document["sections"][1]["findings"][0], told);
    }
}
