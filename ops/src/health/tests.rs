use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::*;

/// An engine that does not know since when.
#[derive(Default)]
struct Forgetful {
    now_us: AtomicI64,
    ok: AtomicBool,
}

impl Engine for Forgetful {
    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn health(&self) -> Health {
        Health {
            checks: vec![Check {
                name: "disk",
                ok: self.ok.load(Ordering::Relaxed),
                reason: String::new(),
                since_us: self.now_us.load(Ordering::Relaxed),
                hint: "",
            }],
        }
    }

    fn answer(&self, _question: &Question) -> Result<Answer, EngineError> {
        Err(EngineError::Failed("nothing is known".to_owned()))
    }

    fn flush(&self) -> Result<u64, EngineError> {
        Ok(0)
    }

    fn retry_quarantine(&self) -> Result<(u64, u64), EngineError> {
        Ok((0, 0))
    }

    fn stranded(&self) -> Result<Vec<serde_json::Value>, EngineError> {
        Ok(Vec::new())
    }

    fn release(&self, _record: &str) -> Result<u32, EngineError> {
        Err(EngineError::Failed("nothing is stranded".to_owned()))
    }
}

#[test]
fn a_check_is_told_since_it_became_what_it_is() {
    let engine = Arc::new(Forgetful::default());
    let watched = Watched::new(Arc::<Forgetful>::clone(&engine));
    let since = |now_us, ok| {
        engine.now_us.store(now_us, Ordering::Relaxed);
        engine.ok.store(ok, Ordering::Relaxed);
        watched.health().checks[0].since_us
    };
    assert_eq!(since(10, true), 10);
    assert_eq!(since(20, true), 10);
    assert_eq!(since(30, false), 30);
    assert_eq!(since(40, false), 30);
    assert_eq!(since(50, true), 50);
}

#[test]
fn what_holds_and_still_needs_someone_is_told_and_does_not_count_against_readiness() {
    let check = |name, hint| Check {
        name,
        ok: true,
        reason: "one terminal is parked".to_owned(),
        since_us: 0,
        hint,
    };
    let health = Health {
        checks: vec![check("shards", ""), check("terminals", "report it")],
    };
    let told = serde_json::to_value(Readiness::of(&health, false)).unwrap();
    assert_eq!(told["ready"], true);
    assert_eq!(told["reasons"].as_array().unwrap().len(), 0);
    assert_eq!(told["notices"].as_array().unwrap().len(), 1);
    assert_eq!(told["notices"][0]["name"], "terminals");
}
