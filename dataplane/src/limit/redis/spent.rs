//! What this process has settled of budgets: the sums that it can give back where Redis loses its data.

pub mod ledger;
