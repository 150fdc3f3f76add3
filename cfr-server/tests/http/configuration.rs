//! The configuration: every mistake has its line and its key.

use cfr_core::money::Currency;
use cfr_core::price::Mode;
use cfr_server::config::Config;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let read = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Config::parse(Some("cfr.toml".as_ref()), text, &read).map_err(|problems| problems.to_string())
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let problems = parse(text, &[]).expect_err("a mistake");
    assert!(problems.contains(expected), "expected `{expected}` in:\n{problems}");
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    refused("listen = \"a\"\nlissten = \"b\"\n", "cfr.toml:2: unknown field `lissten`");
    refused("[money]\n\ncurency = \"EUR\"", "cfr.toml:3: unknown field `curency`");
    refused("[[upstream]]\nname = \"a\"\nkind = \"fake\"\nbase_ur = \"x\"", "cfr.toml:4: unknown field `base_ur`");
}

#[test]
fn values_that_make_no_sense_are_refused_with_their_line() {
    refused("[money]\ncurrency = \"euro\"", "cfr.toml:2: money.currency: ");
    refused("[money]\nfx_usd_per_unit = \"1,16\"", "cfr.toml:2: money.fx_usd_per_unit: ");
    refused("[money]\nbudget_status_code = 418", "cfr.toml:2: money.budget_status_code: 402, 403, 422 or 429");
    refused("[money]\ncurrency = \"JPY\"", "money.fx_usd_per_unit: needed: dollars for one JPY");
    refused("[limits]\nbody_bytes_max = 5", "cfr.toml:2: limits.body_bytes_max: ");
    refused("[limits]\nform_bytes_max = 5", "cfr.toml:2: limits.form_bytes_max: ");
    refused("[ledger]\ndurability = \"maybe\"", "cfr.toml:2: unknown variant `maybe`");
    refused("[[upstream]]\nname = \"a\"\nkind = \"opnai\"", "cfr.toml:3: upstream.kind: unknown kind");
    refused("[[upstream]]\nname = \"a\"\nkind = \"openai\"", "cfr.toml:1: upstream.api_key_env: `a` needs a key");
    refused("[[upstream]]\nname = \"a\"\nkind = \"openai-compatible\"", "cfr.toml:1: upstream.base_url: `a` needs one");
}

#[test]
fn pieces_are_priced_one_by_one_and_alone() {
    let own = |more: &str| {
        format!("[[upstream]]\nname = \"own\"\nkind = \"vllm\"\n[[upstream.price]]\nmodel = \"m\"\n{more}")
    };
    let config = parse(&own("per_second = \"0.0001\""), &[]).expect("good");
    let price = &config.upstreams[0].prices[0];
    assert_eq!((price.mode, price.piece), (Mode::Stt, "0.0001".parse().ok()));
    refused(&own("per_image = \"a lot\""), "upstream.price.per_image: a price is a plain decimal number");
    refused(&own("per_image = \"1\"\nper_second = \"1\""), "upstream.price.per_second: a model is charged by one");
    refused(&own("per_image = \"1\"\nmode = \"stt\""), "upstream.price.per_image: it goes with no other mode");
    refused(&own("mode = \"image\"\ninput_per_million = \"1\""), "upstream.price: `m` needs input_per_million and");
}

#[test]
fn a_database_and_a_node_that_make_no_sense_are_refused_and_passwords_never_show() {
    refused("[database]\nurl = \"mysql://a:very-secret@b/c\"", "cfr.toml:2: database.url: a database is postgres://");
    refused("[database]\npool = 1", "cfr.toml:2: database.pool: from 2 to 500");
    refused("[database]\nmigrate = \"later\"", "cfr.toml:2: unknown variant `later`");
    refused("[ledger]\nnode = \"a b\"", "cfr.toml:2: ledger.node: 1 to 64 letters");
    refused("[ledger]\nlease_seconds = 0", "cfr.toml:2: ledger.lease_seconds: from 1 to 3600");
    let bad = parse("", &[("CFR_DATABASE_URL", "mysql://a:very-secret@b/c")]).expect_err("a mistake");
    assert!(bad.contains("CFR_DATABASE_URL: a database is") && !bad.contains("very-secret"), "{bad}");
    let url = "postgres://cfr:very-secret@db/books";
    let config = parse("[ledger]\nnode = \"x\"", &[("CFR_DATABASE_URL", url), ("CFR_NODE", "y")]).expect("good");
    assert!(!format!("{config:?}").contains("very-secret"));
    assert_eq!(
        (config.database_url().to_string().as_str(), &*config.node().expect("a name")),
        ("postgres://cfr@db/books", "y")
    );
}

#[test]
fn without_a_url_the_books_are_a_file_in_the_data_folder() {
    let config = parse("data = \"here\"", &[]).expect("good");
    assert_eq!(config.database_url().to_string(), "here/cfr.db");
    assert_eq!(&*config.node().expect("a name"), "local");
    let elsewhere = parse("[database]\nurl = \"sqlite:there/x.db\"", &[]).expect("good");
    assert_eq!(elsewhere.database_url().to_string(), "there/x.db");
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "[money]\ncurrency = \"x\"\n[limits]\nbody_bytes_max = 1\n[[model]]\nname = \"m\"\n\
        targets = [{ upstream = \"nobody\", model = \"m\" }]";
    let problems = parse(text, &[]).expect_err("mistakes");
    assert_eq!(problems.lines().count(), 3, "{problems}");
    assert!(problems.contains("cfr.toml:5: model.targets: `m`: there is no upstream `nobody`"), "{problems}");
}

#[test]
fn a_secret_never_shows() {
    let text = "[[upstream]]\nname = \"a\"\nkind = \"openai\"\napi_key = \"sk-very-secret\"\nbogus = 1";
    let problems = parse(text, &[]).expect_err("a mistake");
    assert!(!problems.contains("very-secret"), "{problems}");
    let config = parse(&text.replace("bogus = 1", ""), &[("CFR_ADMIN_KEY", "also-very-secret-key")]).expect("good");
    assert!(!format!("{config:?}").contains("very-secret"));
}

#[test]
fn an_unpriced_unit_is_refused_and_free_must_be_said() {
    let upstream = "[[upstream]]\nname = \"a\"\nkind = \"vllm\"\n[[upstream.price]]\nmodel = \"m\"\n";
    refused(
        upstream,
        "cfr.toml:4: upstream.price: `m` needs input_per_million and output_per_million, a price of pieces, or `free = true`",
    );
    refused(&format!("{upstream}input_per_million = \"-1\"\n"), "upstream.price.input_per_million: ");
    let config = parse(&format!("{upstream}free = true"), &[]).expect("said");
    assert_eq!(config.upstreams[0].prices[0].input.pico_usd(), 0);
}

#[test]
fn the_environment_alone_is_enough() {
    let config = parse("", &[("OPENAI_API_KEY", "sk-1"), ("CFR_LISTEN", "0.0.0.0:80"), ("CFR_DATA", "/var/cfr")]);
    let config = config.expect("good");
    assert_eq!((config.listen.as_str(), config.data.to_str()), ("0.0.0.0:80", Some("/var/cfr")));
    let names: Vec<_> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["openai"]);
}

#[test]
fn a_buffer_makes_the_rate_worse_for_the_customer() {
    let config = parse("[money]\nfx_usd_per_unit = \"1.16\"\nfx_buffer_bps = 200", &[]).expect("good");
    assert_eq!((config.fx.currency(), config.fx.usd_per_unit_e6()), (Currency::EUR, 1_136_800));
}

#[test]
fn the_example_names_every_key() {
    let (keys, example) = (include_str!("../../src/config/file.rs"), include_str!("../../cfr.example.toml"));
    let fields = keys.lines().filter_map(|line| line.trim().strip_prefix("pub(super) ")?.split_once(": "));
    let names: Vec<&str> = fields.map(|(name, _)| name).filter(|name| !name.contains(['(', ' '])).collect();
    assert!(names.len() > 80, "{} keys", names.len());
    for name in names {
        let is_there =
            example.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name);
        assert!(is_there, "{name} is not in the example");
    }
}

#[test]
fn the_example_is_complete_and_means_what_the_defaults_mean() {
    let text = include_str!("../../cfr.example.toml");
    let example = parse(text, &[("OPENAI_API_KEY", "sk-1")]).expect("good");
    let usual = parse("", &[]).expect("good");
    assert_eq!(example.listen, usual.listen);
    assert_eq!(example.data, usual.data);
    assert_eq!((example.drain, example.fx), (usual.drain, usual.fx));
    assert_eq!(format!("{:?}", example.timeouts), format!("{:?}", usual.timeouts));
    assert_eq!(format!("{:?}", example.ledger), format!("{:?}", usual.ledger));
    assert_eq!(format!("{:?}", example.settings), format!("{:?}", usual.settings));
    assert_eq!((example.upstreams.len(), example.models[0].targets.len()), (2, 3));
}
