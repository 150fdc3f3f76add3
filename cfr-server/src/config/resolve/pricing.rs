//! What an operator says of prices: of models that no table has, and of deployments of those that one has.

use cfr_core::price::{Factor, Limits, Mode, OwnPrice, PricedAs, UnitPrice};
use toml::Spanned;

use super::super::{DeploymentConfig, file};
use super::Reader;

/// What is not what is charged.
const FREE: Option<UnitPrice> = Some(UnitPrice::FREE);

impl Reader<'_> {
    pub(super) fn price(&mut self, provider: &str, price: Spanned<file::Price>) -> Option<OwnPrice> {
        let line = self.line(&price);
        let price = price.into_inner();
        if let Some(factor) = &price.factor {
            self.problem(
                self.line(factor),
                "upstream.price.factor",
                "it goes with `like`, the model whose price it multiplies",
            );
        }
        let free = if price.free { Some(UnitPrice::FREE) } else { None };
        let (mode, piece) = self.piece(line, &price);
        let answers = matches!(mode, Mode::Chat | Mode::Image | Mode::Stt | Mode::Tts | Mode::Realtime);
        let none_needed = if answers { piece.and(FREE) } else { FREE };
        let input = self.unit_price(line, "input_per_million", price.input_per_million.as_deref());
        let output = self.unit_price(line, "output_per_million", price.output_per_million.as_deref());
        let cache_read = self.unit_price(line, "cache_read_per_million", price.cache_read_per_million.as_deref());
        let (Some(input), Some(output)) = (input.or(free).or(piece.and(FREE)), output.or(free).or(none_needed)) else {
            let what = format!(
                "`{}` needs input_per_million and output_per_million, a price of pieces, or `free = true`",
                price.model
            );
            self.problem(line, "upstream.price", what);
            return None;
        };
        Some(OwnPrice {
            provider: provider.into(),
            model: price.model.into(),
            mode,
            input,
            output,
            cache_read,
            piece,
            limits: Limits { max_input_tokens: price.input_tokens_max, max_output_tokens: price.output_tokens_max },
        })
    }

    /// What the model is for, and what one image, second or character of it costs.
    fn piece(&mut self, line: Option<usize>, price: &file::Price) -> (Mode, Option<UnitPrice>) {
        let keys = [
            (Mode::Image, "per_image", &price.per_image),
            (Mode::Stt, "per_second", &price.per_second),
            (Mode::Tts, "per_character", &price.per_character),
        ];
        let said: Vec<_> =
            keys.into_iter().filter_map(|(mode, key, text)| Some((mode, key, text.as_deref()?))).collect();
        let [(mode, key, text)] = said[..] else {
            if let [_, (_, key, _), ..] = said[..] {
                self.problem(line, format!("upstream.price.{key}"), "a model is charged by one kind of pieces only");
            }
            return (price.mode.unwrap_or(Mode::Chat), None);
        };
        if price.mode.is_some_and(|said| said != mode) || price.input_per_million.is_some() {
            let what = "it goes with no other mode, and with no price of tokens";
            self.problem(line, format!("upstream.price.{key}"), what);
        }
        let piece = text.trim().parse::<UnitPrice>();
        if let Err(error) = &piece {
            self.problem(line, format!("upstream.price.{key}"), format!("{error}, in quotes, as in \"0.02\""));
        }
        (mode, piece.ok())
    }

    fn unit_price(&mut self, line: Option<usize>, key: &str, text: Option<&str>) -> Option<UnitPrice> {
        let price = UnitPrice::from_usd_per_million(text?.trim());
        if price.is_err() {
            let what = "dollars for a million tokens as a decimal number in quotes, as in \"0.15\"";
            self.problem(line, format!("upstream.price.{key}"), what);
        }
        price.ok()
    }

    /// A model that costs what another one of the table does.
    pub(super) fn deployment(&mut self, usual: Factor, price: Spanned<file::Price>) -> Option<DeploymentConfig> {
        let line = self.line(&price);
        let price = price.into_inner();
        if price.states_figures() {
            let what = format!("`{}` costs what `like` says: figures of its own contradict it", price.model);
            self.problem(line, "upstream.price.like", what);
        }
        let factor = match &price.factor {
            Some(_) => self.factor("upstream.price.factor", price.factor.as_ref()),
            None => usual,
        };
        Some(DeploymentConfig { model: price.model, price: PricedAs { model: Some(price.like?.into()), factor } })
    }

    /// A factor on prices, once when nobody says.
    pub(super) fn factor(&mut self, key: &str, text: Option<&Spanned<String>>) -> Factor {
        let Some(text) = text else { return Factor::ONE };
        text.get_ref().trim().parse().unwrap_or_else(|error: cfr_core::price::FactorError| {
            self.problem(self.line(text), key, format!("{error}, in quotes, as in \"1.1\""));
            Factor::ONE
        })
    }
}
