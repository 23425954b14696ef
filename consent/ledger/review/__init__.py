"""What is reviewed about whole imports: what they would do, whether they are held, and what people decide."""
