"""One delivery: claim a batch, make its calls side by side, settle what came of them; when to stop or try again."""
