"""aioxide"""
