//! Laws that need no oracle, over every recorded pair of the corpus. One line a law says how many pairs kept it.
//!
//! Where `RELAY_CORPUS` is not set there is nothing to check. An exception is listed in `exceptions.json` by law and
//! pair with its reason; one that is no longer needed fails as well.

mod laws {
    pub(crate) mod answers;
    pub(crate) mod ledger;
    pub(crate) mod requests;
    pub(crate) mod streams;
    pub(crate) mod unknown;
}
#[expect(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::process::ExitCode;

use laws::{answers, ledger::Ledger, requests, streams, unknown};

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let Some(pairs) = support::corpus::load() else {
        println!("laws: RELAY_CORPUS is not set; nothing to check");
        return ExitCode::SUCCESS;
    };
    let mut ledger = Ledger::default();
    for pair in &pairs {
        ledger.check("a request is decoded", pair, requests::decodes);
        ledger.check("a spliced request differs in its model alone", pair, requests::splices);
        ledger.check("a longer conversation only appends", pair, requests::extends);
        ledger.check("a whole answer is decoded", pair, answers::decodes);
        ledger.check("a whole answer passes untouched", pair, answers::passes);
        ledger.check("an error is decoded and told in both shapes", pair, answers::tells_errors);
        ledger.check("usage is conserved", pair, answers::conserves_usage);
        ledger.check("content is conserved", pair, answers::conserves_content);
        ledger.check("tool call ids come back", pair, answers::returns_ids);
        ledger.check("a stream is decoded from start to end", pair, streams::decodes);
        ledger.check("a stream passes untouched", pair, streams::passes);
        ledger.check("a stream that passes is understood", pair, streams::learns);
        ledger.check("chunking does not matter", pair, streams::any_chunking);
        ledger.check("streaming and folding commute", pair, streams::folds);
        ledger.check("emitted streams keep the block grammar", pair, streams::keeps_grammar);
        ledger.check("a cut stream is an error", pair, streams::cut);
        ledger.check("unknown fields of a request are not fatal", pair, unknown::in_requests);
        ledger.check("unknown parts of an answer are not fatal", pair, unknown::in_answers);
        ledger.check("unknown parts of a stream are not fatal", pair, unknown::in_streams);
    }
    ledger.close()
}
