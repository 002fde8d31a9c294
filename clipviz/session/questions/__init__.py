"""What a session can be asked, by topic; Session (clipviz.session.core) is all of them together."""
