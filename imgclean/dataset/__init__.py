"""What an image set is, and the only room that changes the user's folder."""
