"""A load tool for any OpenAI-compatible server: who asks what when, and what came of it. Needs `miaotui[bench]`."""
