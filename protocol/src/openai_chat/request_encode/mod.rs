//! Writes a canonical request as a chat request for one target.
//!
//! What the target cannot take is a loss in the caller's words or a refusal. The same history always gives the same
//! bytes, whatever follows it, so that prompt caches upstream keep working.

mod ledger;
mod names;
mod options;
mod parts;
mod reasoning;
mod replay;
mod schema;
mod tools;
mod turns;

use crate::{Refusal, Target, json::Object, request::Request, translate::Encoded};
use ledger::Ledger;

/// Writes a request for a target. Errs on what the target cannot serve; in strict mode on every loss.
pub fn encode_request(request: &Request, target: &Target<'_>) -> Result<Encoded, Refusal> {
    let mut ledger = Ledger::new(request, target);
    let mut body = Object::default();
    body.push("model", target.model);
    body.push("messages", turns::encode(&mut ledger)?);
    tools::encode(&mut ledger, &mut body)?;
    options::encode(&mut ledger, &mut body)?;
    reasoning::encode(&mut ledger, &mut body)?;
    others(&mut ledger, &mut body)?;
    let body = body.to_bytes();
    let (losses, back) = ledger.finish();
    Ok(Encoded { body, headers: Vec::new(), losses, back })
}

/// Fields without a canonical place: as they stood for a caller of this shape, else as their class says.
fn others<'a>(ledger: &mut Ledger<'a>, body: &mut Object<'a>) -> Result<(), Refusal> {
    for other in &ledger.request.other {
        if !ledger.is_native() {
            ledger.leave_out_other(other, "")?;
        } else if !other.path.contains('.') && !body.contains_key(&other.path) {
            body.push(&other.path, &other.value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
