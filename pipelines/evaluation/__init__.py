"""What evaluation.json is made of: who is judged, how models compare, what the data are like, how it went before."""
