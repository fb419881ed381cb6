//! Several engines that share the stores of a chain.

use super::*;

async fn sent(terminal: &Terminal, times: std::ops::Range<i64>) {
    send(terminal, times).await;
    terminal.flush().await.unwrap();
}

fn hellos(memory: &Memory, till: u32) -> u32 {
    let journal = memory.lock().unwrap();
    journal.hellos.get(&id(till).to_u64()).copied().unwrap_or(0)
}

async fn two(pki: &Pki) -> ((Engine, Memory), (Engine, Memory)) {
    let (first, second) = (Memory::default(), Memory::default());
    let here = Engine::start(pki, &first, 0).await;
    let there = Engine::start(pki, &second, 0).await;
    ((here, first), (there, second))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminals_of_one_link_live_on_different_engines_and_stay_there() {
    let pki = Pki::new();
    let ((here, first), (there, second)) = two(&pki).await;
    for till in [2, 4] {
        let mut journal = first.lock().unwrap();
        journal
            .places
            .insert(id(till).to_u64(), there.address.to_string());
    }
    // Even, so that it is now the one and now the other: what is cut is sent again and shifts the turns.
    second.lock().unwrap().cut_every = 4;
    let patient = LinkConfig {
        connect_timeout: Duration::from_secs(10),
        ..config(&pki, &[&here])
    };
    let link = Link::open(patient).unwrap();
    let terminals: Vec<_> = (1..=4).map(|till| memory_terminal(&link, till)).collect();
    // Long enough that a stream of each is cut, in whatever order they come.
    for round in 0..15 {
        for terminal in &terminals {
            sent(terminal, round * 10..round * 10 + 10).await;
        }
    }
    assert_applied(&first, 2, 150);
    assert_applied(&second, 2, 150);
    // Streams were cut, and each came back to the engine that was named, without asking the first again.
    for till in [2, 4] {
        assert_eq!(hellos(&first, till), 1);
        assert!(hellos(&second, till) > 1);
    }
    link.close().await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_engine_that_was_named_is_gone_the_others_are_asked() {
    let pki = Pki::new();
    let ((here, first), (there, second)) = two(&pki).await;
    let address = there.address.to_string();
    first.lock().unwrap().places.insert(id(1).to_u64(), address);
    let link = Link::open(config(&pki, &[&here])).unwrap();
    let terminal = memory_terminal(&link, 1);
    sent(&terminal, 0..30).await;
    there.stop().await;
    // For a while the other one still names it; then it has taken its place.
    send(&terminal, 30..40).await;
    while hellos(&first, 1) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let come_back = || {
        let mut journal = first.lock().unwrap();
        journal.epochs = second.lock().unwrap().epochs.clone();
        journal.places.clear();
        journal.nobody.insert(id(1).to_u64(), 2);
    };
    come_back();
    terminal.flush().await.unwrap();
    assert_applied(&second, 1, 30);
    assert_applied(&first, 1, 10);
    assert_eq!(terminal.standing().last, 40);
    link.close().await;
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_links_own_engine_is_gone_the_next_address_is_tried() {
    let (pki, memory) = (Pki::new(), Memory::default());
    let one = Engine::start(&pki, &memory, 0).await;
    let other = Engine::start(&pki, &memory, 0).await;
    let link = Link::open(config(&pki, &[&one, &other])).unwrap();
    let terminal = memory_terminal(&link, 1);
    sent(&terminal, 0..20).await;
    one.stop().await;
    sent(&terminal, 20..40).await;
    assert_applied(&memory, 1, 40);
    assert_eq!(
        link.remote_address().map(|address| address.port()),
        Some(other.address.port())
    );
    link.close().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_that_send_a_terminal_to_and_fro_are_asked_until_one_serves_it() {
    let pki = Pki::new();
    let ((here, first), (there, second)) = two(&pki).await;
    let place = |engine: &Engine| Some(engine.address.to_string());
    first.lock().unwrap().redirect = place(&there);
    second.lock().unwrap().redirect = place(&here);
    let link = Link::open(config(&pki, &[&here])).unwrap();
    let terminal = memory_terminal(&link, 1);
    send(&terminal, 0..5).await;
    while hellos(&second, 1) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    second.lock().unwrap().redirect = None;
    terminal.flush().await.unwrap();
    assert_applied(&second, 1, 5);
    link.close().await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engines_that_a_link_remembers_are_bounded() {
    let (pki, memory) = (Pki::new(), Memory::default());
    let engine = Engine::start(&pki, &memory, 0).await;
    let link = Link::open(config(&pki, &[&engine])).unwrap();
    for port in 1..=3 * u16::try_from(super::super::NODES_MAX).unwrap() {
        // Nobody listens there, and nobody holds on to the node.
        drop(link.shared.node_at(&format!("127.0.0.1:{port}")));
        let others = link.shared.others.lock().unwrap().len();
        assert!(others <= super::super::NODES_MAX);
    }
    let last = link.shared.node_at("127.0.0.1:9");
    assert!(!Arc::ptr_eq(&last, &link.shared.home));
    link.close().await;
    engine.stop().await;
}
