"""The channel's figures: sales, shelves, wholesalers, commission, diversion, churn."""
