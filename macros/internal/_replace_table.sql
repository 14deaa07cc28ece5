{% macro _replace_table(existing, intermediate, target, backup, drops_indexes=true) %}
  {%- set dropped = [] -%}
  {% if existing is not none %}
    {#- DuckDB renames no table that an index or a foreign key depends on. -#}
    {% if drops_indexes %}
      {% do drop_indexes_on_relation(existing) %}
    {% endif %}
    {% if existing.is_table and may_be_foreign_key_target is defined and may_be_foreign_key_target(existing) %}
      {%- set dropped = drop_foreign_key_dependents(existing) -%}
    {% endif %}
    {{ adapter.rename_relation(existing, backup) }}
  {% endif %}
  {{ adapter.rename_relation(intermediate, target) }}
  {% if dropped %}
    {% do restore_foreign_key_dependents(dropped) %}
  {% endif %}
  {% do create_indexes(target) %}
{% endmacro %}
