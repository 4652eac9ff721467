mod located;
