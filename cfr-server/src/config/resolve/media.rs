//! From where pictures and documents are fetched that callers give by their addresses.

use cfr_providers::media::MediaRules;
use toml::Spanned;

use super::super::file;
use super::Reader;

impl Reader<'_> {
    /// What is fetched is public, encrypted and limited in any case, so that it is fetched when nothing is said.
    pub(super) fn media(&mut self, section: file::Media) -> Option<MediaRules> {
        let file::Media { fetch, http, hosts } = section;
        let hosts = self.hosts(hosts, "media.hosts");
        fetch.unwrap_or(true).then_some(MediaRules { http, hosts })
    }

    /// Names of hosts.
    pub(super) fn hosts(&mut self, hosts: Vec<Spanned<String>>, key: &str) -> Vec<String> {
        hosts.into_iter().filter_map(|host| self.host(host, key)).collect()
    }

    fn host(&mut self, host: Spanned<String>, key: &str) -> Option<String> {
        let line = self.line(&host);
        let host = host.into_inner();
        if is_host(host.strip_prefix("*.").unwrap_or(&host)) {
            return Some(host);
        }
        let what =
            format!("`{host}`: the name of a host, or `*.` and a name for all below it, without scheme and port");
        self.problem(line, key, what);
        None
    }
}

fn is_host(name: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parsed(text: &str) -> Result<Option<MediaRules>, String> {
        let config = Config::parse(None, text, &|_| None);
        config.map(|config| config.media).map_err(|problems| problems.to_string())
    }

    #[test]
    fn fetching_is_on_encrypted_and_from_everywhere_unless_said_otherwise() {
        assert_eq!(parsed(""), Ok(Some(MediaRules::default())));
        assert_eq!(parsed("[media]\nfetch = false"), Ok(None));
        let hosts = vec!["cdn.example".to_owned(), "*.images.example".to_owned()];
        let text = "[media]\nhttp = true\nhosts = [\"cdn.example\", \"*.images.example\"]";
        assert_eq!(parsed(text), Ok(Some(MediaRules { http: true, hosts })));
    }

    #[test]
    fn a_host_is_a_name_and_nothing_else() {
        for host in ["", "https://cdn.example", "cdn.example:8080", "*", "*.", "a b", "a/b"] {
            let problem = parsed(&format!("[media]\nhosts = [\"{host}\"]")).unwrap_err();
            assert!(problem.contains("media.hosts: ") && problem.contains("without scheme"), "{problem}");
        }
    }
}
