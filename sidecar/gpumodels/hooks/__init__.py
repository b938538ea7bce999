"""What of torch is observed: modules made, files read, weights loaded and moved. A hook only tells the rooms below."""
