use super::link::Missed;
pub(super) struct Seeder;
impl Seeder {
    pub(super) fn has_seeds(&self, _: &str) -> bool {
        false
    }
    pub(super) fn process(&self) -> &str {
        "p"
    }
    pub(super) async fn seed(&self, _: &str, _: &str) -> Result<(), Missed> {
        Ok(())
    }
}

pub(super) struct Spent;
impl Spent {
    pub(super) fn settled(
        &self,
        _: &[super::ledger::Dated],
        _: &[crate::limit::claims::ScopeClaim],
        _: crate::limit::counter::Outcome,
        _: &str,
    ) {
    }
    pub(super) fn spent(&self, _: &super::spends::Spend, _: &str) {}
}
