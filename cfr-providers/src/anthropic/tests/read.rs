//! What clients of the dialect say, as a dialog in nobody's.

use super::*;

#[test]
fn the_vector_of_messages_is_read_into_a_dialog() {
    let dialog = MESSAGES_SURFACE.read(&call(Operation::Messages, &vector("anthropic_in_tools")["request"])).unwrap();
    assert_eq!(dialog.system[0].text, "S");
    assert_eq!(dialog.system[0].cache, Some(crate::dialog::CacheMark::Usual));
    assert_eq!(
        (dialog.output_tokens_max, dialog.stop, dialog.end_user),
        (Some(500), vec!["END".into()], Some("u-1".into()))
    );
    assert_eq!(dialog.reasoning, Some(crate::dialog::Reasoning::Effort(crate::dialog::Effort::Medium)));
    assert_eq!((dialog.tool_choice, dialog.parallel_tools), (Some(crate::dialog::ToolChoice::Required), Some(false)));
    assert_eq!(dialog.tools[0].name(), "get_weather");
    let [Part::Thought(thought), Part::Text(said), Part::ToolCall(call)] = &dialog.turns[1].parts[..] else {
        panic!("{:?}", dialog.turns[1])
    };
    assert_eq!(thought.seal, Some(Seal::Anthropic("sig".into())));
    assert_eq!((said.text.as_str(), call.arguments.as_str()), ("Looking.", r#"{"city":"Oslo"}"#));
    let [Part::ToolResult(result), Part::Text(_)] = &dialog.turns[2].parts[..] else { panic!("{:?}", dialog.turns[2]) };
    assert!(result.is_error && matches!(result.content[..], [Part::Text(_), Part::Image(_)]));
    assert_eq!(dialog.unread, Vec::<Box<str>>::new());
}

#[test]
fn a_dialog_of_messages_goes_back_as_it_came() {
    let vector = vector("anthropic_in_tools");
    let mut dialog = MESSAGES_SURFACE.read(&call(Operation::Messages, &vector["request"])).unwrap();
    MANNERS.apply(&mut dialog, &mut Drops::default()).unwrap();
    let body = request::body(&dialog, "x", Hosting::Anthropic, &mut Drops::default()).unwrap();
    let mut expected = vector["request"].clone();
    // What is unknown of the model `x`: it is given a number of tokens to think, for which there is no room.
    expected.as_object_mut().unwrap().remove("thinking");
    expected.as_object_mut().unwrap().remove("output_config");
    assert_eq!(Value::Object(body), expected);
}

#[test]
fn what_only_anthropic_can_do_is_refused_by_name_or_left_out_where_that_is_allowed() {
    for (more, name) in [
        (json!({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}), "mcp_servers"),
        (json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}), "tools[0].type `bash_20250124`"),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search", "blocked_domains": ["x"]}]}),
            "tools[0].blocked_domains",
        ),
        (json!({"inference_geo": "us"}), "inference_geo"),
        (json!({"system": [{"type": "new", "x": 1}]}), "system[0].type `new`"),
    ] {
        let call = messages(more);
        match MESSAGES_SURFACE.read(&call) {
            Err(UpstreamError::Unsupported { message }) => assert_eq!(&*message, name),
            other => panic!("{other:?}"),
        }
        let allowed = MESSAGES_SURFACE.read(&Call { drop_params: true, ..call }).unwrap();
        assert_eq!(allowed.unread, [Box::from(name)]);
    }
    let harmless =
        MESSAGES_SURFACE.read(&messages(json!({"context_management": {"edits": []}, "inference_geo": "global"})));
    assert_eq!(harmless.unwrap().unread, ["context_management".into()]);
}

#[test]
fn documents_and_search_results_are_words_where_they_are_words() {
    let content = json!([
        {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
        {"type": "search_result", "title": "S", "source": "https://s", "content": [{"type": "text", "text": "found"}]},
        {"type": "image", "source": {"type": "url", "url": "https://i"}},
    ]);
    let dialog = MESSAGES_SURFACE.read(&messages(json!({"messages": [{"role": "user", "content": content}]}))).unwrap();
    let [Part::Text(title), Part::Text(words), Part::File(file), Part::Text(found), Part::Image(_)] =
        &dialog.turns[0].parts[..]
    else {
        panic!("{:?}", dialog.turns)
    };
    assert_eq!((title.text.as_str(), words.text.as_str(), file.name.as_deref()), ("T", "words", Some("a.pdf")));
    assert_eq!(found.text, "S\nhttps://s\nfound");
}
